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
    CloseReason,
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from p2pml.worker import tls
from p2pml.worker.alive import keep_alive, notice_silence
from p2pml.worker.calls import Caller
from p2pml.worker.offers import Offers
from p2pml.worker.protocol import MAX_MESSAGE, REPLACED, Message, Progress, Request
from p2pml.worker.session import Session, WorkerError
from p2pml.worker.sockets import BUFFER, authorization

if TYPE_CHECKING:
    from trio_typing import TaskStatus

R = TypeVar("R", bound=Message)
E = TypeVar("E", bound=Exception)
log = logging.getLogger(__name__)

CONNECT_S = 20.0
MAX_BACKOFF = 60.0
"""Seconds between two attempts, at most."""
PATIENCE_S = 300.0
"""Calls wait for a worker that cannot be reached or is not ready, but no longer than this."""
ABNORMAL = 1006
"""Code of a connection that ended without a word (RFC 6455, 7.4.1)."""


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


class EndedError(Exception):
    """There is no connection, or no more; the message says why."""


class ReplacedError(EndedError):
    """The worker has ended it for another node's sake."""


class RefusedError(EndedError):
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
        self._greeted: Session | None = None
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
        """Connect, and serve the calls until the connection ends; whether it was ours while it lasted."""
        scope = trio.CancelScope()
        session = Session(scope.cancel, self._changed_state, self._offers.read)
        reason, replaced = "the connection to the worker broke", False
        try:
            with scope:
                async with await self._connect() as stream:
                    await self._converse(session, stream)
        except EndedError as error:
            reason, replaced = str(error), isinstance(error, ReplacedError)
            if isinstance(error, RefusedError):
                self._refusal = reason
        except (OSError, UnicodeError, trio.TooSlowError, trio.BrokenResourceError) as error:
            reason = f"{self._place.url} cannot be reached: {_why(error)}"
        finally:
            self._session = None
            self._over(session, reason)
        return session.hello is not None and not replaced

    async def _converse(self, session: Session, stream: trio.SocketStream | trio.SSLStream) -> None:
        """Until the connection ends. Raises EndedError."""
        end: EndedError | None = None
        try:
            async with trio.open_nursery() as nursery:
                ws = await self._open(stream, nursery)
                self._session = session
                nursery.start_soon(keep_alive, ws, session.kill)
                nursery.start_soon(self._lose_patience, session)
                await session.serve(ws)
                nursery.cancel_scope.cancel()
        except* ConnectionClosed as group:
            end = _closed(_first(group).reason)
        except* (HandshakeError, trio.TooSlowError) as group:
            end = self._not_opened(_first(group))
        except* Exception:
            log.exception("the connection to the worker failed")  # that may not end the node
        if end is not None:
            raise end

    async def _lose_patience(self, session: Session) -> None:
        """Refuse calls to a worker that is connected and does not get ready."""
        await trio.sleep_until(self._absent_since + PATIENCE_S)
        if session.hello is None and not self._refusal:
            self._refusal = f"the worker at {self._place.url} has not started within {PATIENCE_S:g} s"
            self._notify()

    def _not_opened(self, error: Exception) -> EndedError:
        status = error.status_code if isinstance(error, ConnectionRejected) else 0
        if status == 403:
            return RefusedError(f"the worker at {self._place.url} refuses the token")
        why = f"the answer has status {status}" if status else _why(error)
        return EndedError(f"{self._place.url} does not answer as a worker does: {why}")

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
            if self._session is not self._greeted:  # its process may be another one, and say Hello again
                self._greeted = self._session
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
            notice_silence(tcp)
            return await self._secure(tcp, url.hostname) if url.scheme == "wss" else tcp

    async def _open(
        self, stream: trio.SocketStream | trio.SSLStream, nursery: trio.Nursery
    ) -> WebSocketConnection:
        """The token goes over a connection whose certificate is known to be the right one."""
        with trio.fail_after(CONNECT_S):
            return await wrap_client_stream(
                nursery,
                stream,
                urlsplit(self._place.url).netloc,
                "/",
                extra_headers=[authorization(self._place.token)],
                max_message_size=MAX_MESSAGE,
                receive_buffer_size=BUFFER,
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


def _closed(reason: CloseReason | None) -> EndedError:
    if reason is None or reason.code == ABNORMAL:
        return EndedError("the connection to the worker broke")
    kind = ReplacedError if reason.code == REPLACED else EndedError
    return kind(f"the worker ended the connection: {reason.reason or reason.name}")


def _why(error: Exception) -> str:
    if isinstance(error, trio.TooSlowError):
        return f"no answer within {CONNECT_S:g} s"
    cause = error.__cause__
    if isinstance(cause, ExceptionGroup):
        cause = _first(cause)  # one of several addresses
    words, deeper = str(error), str(cause or "")
    return (
        f"{words}: {deeper}" if words and deeper and deeper not in words else words or deeper or repr(error)
    )


def _first(group: BaseExceptionGroup[E]) -> E:
    error: E | BaseExceptionGroup[E] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
