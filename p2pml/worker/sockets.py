"""The WebSocket between a node and its worker: its bounds, and the token that opens the one to a worker on
another machine."""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio
from trio_websocket import WebSocketRequest, WebSocketServer, serve_websocket

from p2pml.worker.protocol import MAX_MESSAGE

if TYPE_CHECKING:
    from trio_typing import TaskStatus

BUFFER = 1 << 18
"""Bytes that are read at once."""


def authorization(token: str) -> tuple[bytes, bytes]:
    """The header that shows a token."""
    return b"authorization", b"Bearer " + token.encode()


def is_authorized(request: WebSocketRequest, token: str) -> bool:
    """Whether a request shows this token; takes the same time for any other one."""
    name, value = authorization(token)
    return hmac.compare_digest(dict(request.headers).get(name, b""), value)


async def listen(
    handler: Callable[[WebSocketRequest], Awaitable[None]],
    host: str,
    port: int,
    context: ssl.SSLContext | None,
    connect_s: float,
    *,
    task_status: TaskStatus[WebSocketServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. Raises OSError: the port cannot be had.

    Args:
        handler: of each request.
        host, port: to listen on; port 0 lets the system choose one.
        context: TLS; None for none.
        connect_s: seconds that a handshake may take.
    """
    await serve_websocket(
        handler,
        host,
        port,
        context,
        max_message_size=MAX_MESSAGE,
        receive_buffer_size=BUFFER,
        connect_timeout=connect_s,
        disconnect_timeout=1,
        task_status=task_status,
    )
