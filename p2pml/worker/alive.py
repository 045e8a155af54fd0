"""Noticing that the other end of a connection is gone without a word."""

from __future__ import annotations

from collections.abc import Callable

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

EVERY_S = 15.0
WITHIN_S = 120.0
"""An answer may have to wait behind a large message."""


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
