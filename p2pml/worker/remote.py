"""A worker on another machine, as its node sees it: connect, prove who we are, call it, and connect again
when the connection breaks. Nothing is started here; `p2pml.worker.serving` is the other side."""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from p2pml.worker import tls
from p2pml.worker.alive import keep_alive
from p2pml.worker.calls import Caller
from p2pml.worker.offers import Offers
from p2pml.worker.protocol import MAX_MESSAGE, Message, Progress, Request
from p2pml.worker.session import Session, WorkerError

if TYPE_CHECKING:
    from trio_typing import TaskStatus

R = TypeVar("R", bound=Message)
log = logging.getLogger(__name__)

CONNECT_S = 20.0
MAX_BACKOFF = 60.0
"""Seconds between two attempts, at most."""
PATIENCE_S = 300.0
"""Calls wait for a worker that cannot be reached, but no longer than this."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker is.

    Args:
        url: `wss://host:port`, or `ws://` by loopback.
        token: proves to it who we are.
        fingerprint: SHA-256 of its certificate, in hexadecimal digits; empty where an authority that this
            machine trusts has signed it for that host.
    """

    url: str
    token: str
    fingerprint: str = ""


class RefusedError(Exception):
    """The worker is not the one that was expected, or does not want us."""


class RemoteWorker(Caller):
    """A worker that somebody else keeps alive.

    Args:
        place: of the worker.
        backoff: seconds before the first new attempt; doubles with each one that fails.
    """

    def __init__(self, place: Place, *, backoff: float = 1.0) -> None:
        super().__init__()
        self.limits = None  # its own machine's affair
        self._place = place
        self._backoff = backoff
        self._offers = Offers()
        self._absent_since = -math.inf
        self._preparing = trio.Lock()

    async def call(self, request: Request[R], progress: Callable[[Progress], None] | None = None) -> R:
        """As `Caller.call`; samples are named by their content.

        Raises:
            WorkerError: also where the samples cannot be read.
        """
        async with self._preparing:  # one call's samples are on offer at a time
            try:
                named = await self._offers.by_content(request)
            except OSError as error:
                raise WorkerError(f"the samples cannot be read: {error}") from error
            return await super().call(named, progress)

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Stay connected until cancelled; started at once."""
        task_status.started()
        pause, self._absent_since = self._backoff, trio.current_time()
        try:
            while True:
                was_ready = await self._one_life()
                await trio.sleep(pause)
                pause = self._backoff if was_ready else min(2 * pause, MAX_BACKOFF)
        finally:
            self._refusal = "the node is stopping"
            self._notify()

    async def _one_life(self) -> bool:
        """Connect, and serve the calls until the connection ends; whether it was ready."""
        scope = trio.CancelScope()
        session = Session(scope.cancel, self._changed_state, self._offers.read)
        reason = "the connection to the worker broke"
        try:
            with scope:
                async with await self._connect() as stream:
                    await self._converse(session, stream)
        except RefusedError as error:
            self._refusal = reason = str(error)
        except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
            reason = f"{self._place.url} cannot be reached: {error or type(error).__name__}"
        finally:
            self._session = None
            self._over(session, reason)
        return session.hello is not None

    async def _converse(self, session: Session, stream: trio.SocketStream | trio.SSLStream) -> None:
        """Until the connection ends. Raises RefusedError."""
        refused = False
        try:
            async with trio.open_nursery() as nursery:
                ws = await self._open(stream, nursery)
                self._session = session
                nursery.start_soon(keep_alive, ws, session.kill)
                await session.serve(ws)
                nursery.cancel_scope.cancel()
        except* ConnectionRejected as group:
            refused = any(error.status_code == 403 for error in _leaves(group))
        except* (ConnectionClosed, HandshakeError, trio.TooSlowError):
            pass  # broken, at whatever moment
        except* Exception:
            log.exception("the connection to the worker failed")  # that may not end the node
        if refused:
            raise RefusedError(f"the worker at {self._place.url} refuses the token")

    def _over(self, session: Session, reason: str) -> None:
        session.end(reason)
        now, self._trouble = trio.current_time(), session.last_words
        if session.hello is not None:
            self._absent_since = now
        if now - self._absent_since > PATIENCE_S:
            self._refusal = self._trouble
        log.warning("no worker: %s", self._trouble)
        self._notify()

    def _changed_state(self) -> None:
        if self.ready:
            self._starts += 1
            self._refusal = self._trouble = ""
            log.info("the worker at %s is ready", self._place.url)
        elif self._session is not None and self._session.unable:
            self._refusal = self._session.unable
        self._notify()

    async def _connect(self) -> trio.SocketStream | trio.SSLStream:
        """Raises RefusedError, or what a network raises."""
        url = urlsplit(self._place.url)
        assert url.hostname is not None  # checked where it was configured
        with trio.fail_after(CONNECT_S):
            tcp = await trio.open_tcp_stream(url.hostname, url.port or 443)
            return await self._secure(tcp, url.hostname) if url.scheme == "wss" else tcp

    async def _open(
        self, stream: trio.SocketStream | trio.SSLStream, nursery: trio.Nursery
    ) -> WebSocketConnection:
        """The token goes over a connection whose certificate is known to be the right one."""
        authorization = b"Bearer " + self._place.token.encode()
        with trio.fail_after(CONNECT_S):
            return await wrap_client_stream(
                nursery,
                stream,
                urlsplit(self._place.url).netloc,
                "/",
                extra_headers=[(b"authorization", authorization)],
                max_message_size=MAX_MESSAGE,
                receive_buffer_size=1 << 18,
            )

    async def _secure(self, tcp: trio.SocketStream, host: str) -> trio.SSLStream:
        expected = self._place.fingerprint
        context = tls.client_context(bool(expected))
        secured = trio.SSLStream(tcp, context, server_hostname=host, https_compatible=True)
        try:
            await secured.do_handshake()
            certificate = cast(bytes, secured.getpeercert(binary_form=True))
            if expected and not tls.same_fingerprint(certificate, expected):
                shown = tls.fingerprint(certificate)
                raise RefusedError(f"{self._place.url} has a certificate with another fingerprint: {shown}")
        except BaseException as error:
            await trio.aclose_forcefully(tcp)
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                why = error.__cause__.verify_message
                raise RefusedError(f"the certificate of {self._place.url} is not trusted: {why}") from error
            raise
        return secured


def _leaves(group: BaseExceptionGroup[ConnectionRejected]) -> list[ConnectionRejected]:
    found: list[ConnectionRejected] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
