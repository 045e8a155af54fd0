"""`p2pml worker serve`: lend this machine's worker to a node on another one."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pml.cli.options import JsonOption
from p2pml.cli.output import emit, emit_json, fields
from p2pml.cli.worker_commands import group
from p2pml.errors import ExitCode, UserError

if TYPE_CHECKING:
    from p2pml.worker.serve import Lent


def register() -> None:
    group.command("serve")(serve)


def serve(
    token_file: Annotated[
        Path, typer.Option("--token-file", help="the secret to share with the node; made if new")
    ],
    listen: Annotated[str, typer.Option("--listen", help="address and port to listen on")] = "0.0.0.0:9480",
    folder: Annotated[
        Path | None, typer.Option("--folder", help="for certificate, samples and log", show_default=False)
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--tls-cert", help="PEM file; default: one made here, pinned by fingerprint", show_default=False
        ),
    ] = None,
    key: Annotated[Path | None, typer.Option("--tls-key", help="its key", show_default=False)] = None,
    plain: Annotated[bool, typer.Option("--no-tls", help="by loopback only, as behind a tunnel")] = False,
    threads: Annotated[int, typer.Option("--threads", min=1, max=1024)] = 1,
    cpu: Annotated[
        int, typer.Option("--cpu", min=5, max=100, help="per cent of what they could compute")
    ] = 100,
    memory: Annotated[int, typer.Option("--memory-mb", min=0, help="MiB; 0: half of the machine's")] = 0,
    nice: Annotated[int, typer.Option("--nice", min=0, max=19)] = 10,
    devices: Annotated[
        int, typer.Option("--devices", min=1, max=64, help="that a training is spread over")
    ] = 1,
    idle_only: Annotated[
        bool, typer.Option("--idle-only", help="rest while others use this machine")
    ] = False,
    trainers: Annotated[
        list[str] | None, typer.Option("--trainer", help="an installed trainer that jobs may use; repeatable")
    ] = None,
    keep: Annotated[int, typer.Option("--keep-mb", min=1, help="MiB of samples that stay here")] = 4096,
    as_json: JsonOption = False,
) -> None:
    """Lend this machine's worker to a node on another one, until interrupted."""
    host, port = parse_listen(listen)
    if plain and not _loopback(host):
        raise _usage(f"--no-tls on {host} would let others read the token", "listen on 127.0.0.1, or use TLS")
    if (certificate is None) != (key is None):
        raise _usage("--tls-cert and --tls-key belong together", "give both, or neither")
    import logging

    import platformdirs
    import trio

    from p2pml.config import Config
    from p2pml.node.no_worker import reason_for_no_worker
    from p2pml.worker.limits import WorkerLimits
    from p2pml.worker.serve import Lending, lend_worker

    if reason := reason_for_no_worker(Config()):
        raise UserError(
            f"this machine cannot lend a worker: {reason}", "install it here", ExitCode.BAD_CONFIG
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s")
    logging.getLogger("trio-websocket").setLevel(logging.WARNING)
    limits = WorkerLimits(threads, cpu, memory << 20 or None, nice, devices, tuple(trainers or ()))
    lending = Lending(
        host, port, token_file, folder or Path(platformdirs.user_data_dir("p2pml-worker")), certificate, key,
        not plain, limits, idle_only, keep << 20,
    )  # fmt: skip

    def ready(lent: Lent) -> None:
        scheme = "ws" if plain else "wss"
        found = {"worker": f"{scheme}://{host}:{lent.port}", "worker_fingerprint": lent.fingerprint}
        if as_json:
            emit_json(found)
        else:
            shown = [("listening", found["worker"]), ("token", f"in {token_file}: copy it to the node")]
            emit(fields([*shown, *([("fingerprint", lent.fingerprint)] if lent.fingerprint else [])]))

    trio.run(lend_worker, lending, ready)


def parse_listen(text: str) -> tuple[str, int]:
    """Address and port of `192.0.2.1:9480` or `[::]:9480`. Raises UserError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise _usage(f"{text!r} is not an address and a port", "write it as 0.0.0.0:9480 or [::]:9480")
    return host.strip("[]"), int(port)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _usage(cause: str, fix: str) -> UserError:
    return UserError(cause, fix, ExitCode.USAGE)
