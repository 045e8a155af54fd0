"""A machine that lends its worker to a node on another one: everything of it, in one nursery."""

from __future__ import annotations

import logging
import signal
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from p2pml.errors import ExitCode, UserError
from p2pml.stopping import stop_on_signal
from p2pml.worker import tls
from p2pml.worker.contents import Contents
from p2pml.worker.limits import WorkerLimits
from p2pml.worker.load import rest_while_busy
from p2pml.worker.process import WorkerSupervisor
from p2pml.worker.serving import WorkerServer
from p2pml.worker.token import make_token, read_token

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lending:
    """How a worker is lent.

    Args:
        host, port: to listen on; port 0 lets the system choose one.
        token_file: the secret that the node shows; made if it is not there.
        folder: for certificate, samples and the worker's log.
        certificate, key: PEM files that an authority has signed; None for a certificate of our own.
        encrypted: False only where nobody can listen in.
        limits: of the process.
        idle_only: whether it rests while others use this machine.
        keep: bytes of samples that stay here.
    """

    host: str
    port: int
    token_file: Path
    folder: Path
    certificate: Path | None = None
    key: Path | None = None
    encrypted: bool = True
    limits: WorkerLimits = field(default_factory=WorkerLimits)
    idle_only: bool = False
    keep: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Lent:
    """What the node has to be told: the port, and the certificate's fingerprint (empty without TLS)."""

    port: int
    fingerprint: str


async def lend_worker(lending: Lending, ready: Callable[[Lent], None]) -> None:
    """Serve until cancelled or terminated (SIGTERM; SIGHUP unless under nohup).

    Args:
        ready: called once the port is open; the process may still be loading TensorFlow.

    Raises:
        UserError: the token, certificate, folder or port cannot be used.
    """
    make_token(lending.token_file)
    token = read_token(lending.token_file)
    try:
        contents = Contents(lending.folder / "samples", lending.keep)
        context, fingerprint = _secured(lending)
    except (OSError, ValueError) as error:
        raise _unusable(f"certificate or folder {lending.folder} cannot be used: {error}") from error
    worker = WorkerSupervisor(lending.folder / "worker.log", lending.limits)
    server = WorkerServer(worker, token, contents)
    failure: OSError | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(stop_on_signal, nursery.cancel_scope, (signal.SIGTERM, signal.SIGHUP))
        await nursery.start(worker.run)
        if lending.idle_only:
            nursery.start_soon(rest_while_busy, worker.rest)
        try:
            listening = await nursery.start(server.run, lending.host, lending.port, context)
            ready(Lent(listening.listeners[0].port, fingerprint))
            await trio.sleep_forever()
        except OSError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise _unusable(f"{lending.host} port {lending.port} cannot be had: {failure}") from failure


def _secured(lending: Lending) -> tuple[ssl.SSLContext | None, str]:
    """The TLS context and the certificate's fingerprint. Raises OSError or ValueError."""
    if not lending.encrypted:
        return None, ""
    certificate, key = lending.certificate, lending.key
    if certificate is None or key is None:
        certificate, key = lending.folder / "worker.crt", lending.folder / "worker.key"
        tls.make_certificate(certificate, key)
    return tls.server_context(certificate, key), tls.file_fingerprint(certificate)


def _unusable(cause: str) -> UserError:
    return UserError(cause, "choose others; see `p2pml worker serve --help`", ExitCode.BAD_CONFIG)
