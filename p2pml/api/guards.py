"""What every request passes before the application sees it: the Host allow-list and a cap on the body's
size.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2pml.api.problems import problem
from p2pml.errors import ExitCode

MAX_BODY = 14 * 1024 * 1024
"""Largest request body in bytes: the largest that is ever sent is a metainfo file of 10 MB in base64."""

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})


class HostGuard:
    """Refuses requests whose Host is not this machine's loopback name.

    A page from elsewhere that rebinds its own DNS name to 127.0.0.1 still sends its own name as Host.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_loopback(scope):
            response = problem(
                421,
                "this API answers to 127.0.0.1 and localhost only",
                "use one of them as host",
                ExitCode.AUTH,
            )
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)


class BodyGuard:
    """Refuses request bodies over `limit` bytes, announced or not."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > self._limit:
            await self._too_large()(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._limit:
                return {"type": "http.disconnect"}
            return message

        await self._app(scope, counted, send)

    def _too_large(self) -> ASGIApp:
        return problem(413, f"the request body is larger than {self._limit} bytes", "send less")


def _is_loopback(scope: Scope) -> bool:
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
    name = host.rsplit(":", 1)[0] if host.rsplit(":", 1)[-1].isdigit() and ":" in host else host
    return name in LOOPBACK_HOSTS
