"""Serving the application with Hypercorn on trio: on loopback TCP and on a Unix socket in the node's home."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import hypercorn.trio.run as run_module
import trio
from hypercorn.config import Config, Sockets
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp

from p2pml.errors import UserError
from p2pml.socket_path import reachable

if TYPE_CHECKING:
    from trio_typing import TaskStatus

logger = logging.getLogger(__name__)

GRACE_S = 1.0
"""How long open requests (event streams are always open) may go on at shutdown."""


class GuardedTCPServer(TCPServer):
    """Hypercorn's connection handler, whose failure ends its own connection only, and whose sending can be
    cancelled.

    In Hypercorn 0.18 an exception here leaves `serve()` and takes the whole server down; a WebSocket upgrade
    with one byte behind it is enough. And it shields what it sends: one reader that stands still, a suspended
    `p2pml job watch` say, would keep `serve()` from ever ending.
    """

    async def run(self) -> None:
        try:
            await super().run()
        except Exception as error:
            logger.warning("HTTP connection dropped: %r", error)
        except BaseExceptionGroup as group:
            failed, rest = group.split(Exception)
            logger.warning("HTTP connection dropped: %r", failed)
            if rest is not None:
                raise rest from None

    async def protocol_send(self, event: Event) -> None:
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                await self.stream.send_all(event.data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self.protocol.handle(Closed())
            except trio.Cancelled:  # half of it may be out, so nothing can follow
                cast(trio.SocketStream, self.stream).socket.close()
                raise


run_module.TCPServer = GuardedTCPServer  # type: ignore[attr-defined]


async def serve(
    app: ASGIApp, listener: socket.socket, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve an application on a bound socket until cancelled.

    Args:
        app: the ASGI application.
        listener: bound, listening or not; closed at the end.
        task_status: started once requests are taken.
    """
    config = Config()
    config.errorlog = logging.getLogger("p2pml.api.http")
    config.graceful_timeout = GRACE_S
    config.keep_alive_timeout = 60
    config.include_server_header = False
    config.h11_max_incomplete_size = 64 * 1024
    config.websocket_max_message_size = 64 * 1024
    listener.setblocking(False)
    listener.listen(config.backlog)
    with listener:
        await run_module.worker_serve(
            wrap_app(cast(Any, app), config.wsgi_max_body_size, "asgi"),
            config,
            sockets=Sockets([], [listener], []),
            task_status=cast(Any, task_status),
        )


def bind_loopback(port: int) -> socket.socket:
    """A TCP socket that listens on 127.0.0.1, where nobody else does.

    Raises:
        UserError: the port is in use or not allowed.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()  # only this fails where another daemon, just starting, has bound the same port
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"the API port {port} is in use by another program",
                "choose another with --api-port (0: any free one)",
            ) from error
        raise UserError(
            f"the API port {port} cannot be used: {error.strerror}", "choose another with --api-port"
        ) from error
    return listener


@contextmanager
def bind_unix(path: Path) -> Iterator[socket.socket]:
    """A Unix socket at `path`, for its owner only; the path is removed at the end.

    A left-over of a killed daemon is replaced: the caller holds the home's lock, so nobody is listening
    there.

    Raises:
        UserError: the path is too long or not writable.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with reachable(path) as short:
            path.unlink(missing_ok=True)
            old_mask = os.umask(0o177)
            try:
                listener.bind(short)
            finally:
                os.umask(old_mask)
    except OSError as error:
        listener.close()
        raise UserError(
            f"the API socket {path} cannot be made: {error.strerror or error}",
            "check the home folder's owner",
        ) from error
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)
