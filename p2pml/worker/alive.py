"""Noticing that the other end of a connection is gone without a word."""

from __future__ import annotations

import socket
from collections.abc import Callable

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from p2pml.worker.protocol import MAX_MESSAGE
from p2pml.worker.session import SEND_RATE, SEND_TIMEOUT

EVERY_S = 15.0
WITHIN_S = SEND_TIMEOUT + MAX_MESSAGE / SEND_RATE
"""An answer may have to wait behind the longest message."""
SILENT_S = 120
"""A dead link is found earlier, by TCP: nothing of what was sent has arrived for so long."""


def notice_silence(stream: trio.SocketStream) -> None:
    """Have the system end a connection over which nothing arrives any more, where it can."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_S * 1000)


async def keep_alive(ws: WebSocketConnection, dead: Callable[[str], None]) -> None:
    """Ask now and then for a sign of life; `dead` is told when none comes."""
    while True:
        await trio.sleep(EVERY_S)
        try:
            with trio.fail_after(WITHIN_S):
                await ws.ping()
        except trio.TooSlowError:
            dead(f"it has given no sign of life for {WITHIN_S:g} s")
            return
        except ConnectionClosed:
            return  # whoever reads notices
