"""`p2pml worker serve`: lend this machine's worker to a node on another one."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pml.cli.options import JsonOption
from p2pml.cli.output import emit, emit_json, fields
from p2pml.cli.tasks import run_tasks
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

    from p2pml.config import Config
    from p2pml.node.make_worker import limits_of
    from p2pml.node.no_worker import reason_for_no_worker
    from p2pml.worker.serve import Lending, lend_worker

    config = Config().override(
        worker_threads=threads, worker_cpu=cpu, worker_memory_mb=memory, worker_nice=nice,
        worker_devices=devices, worker_trainers=trainers,
    )  # fmt: skip
    if reason := reason_for_no_worker(config):
        raise UserError(
            f"this machine cannot lend a worker: {reason}", "install it here", ExitCode.BAD_CONFIG
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s")
    logging.getLogger("trio-websocket").setLevel(logging.WARNING)
    lending = Lending(
        host, port, token_file, folder or Path(platformdirs.user_data_dir("p2pml-worker")), certificate, key,
        not plain, limits_of(config), idle_only, keep << 20,
    )  # fmt: skip

    def ready(lent: Lent) -> None:
        url = f"{'ws' if plain else 'wss'}://{reachable(host)}:{lent.port}"
        found = {"worker": url, "worker_fingerprint": lent.fingerprint}
        if as_json:
            emit_json(found)
        else:
            shown = [("listening", url), ("token", f"in {token_file}: copy it to the node")]
            emit(fields([*shown, *([("fingerprint", lent.fingerprint)] if lent.fingerprint else [])]))

    run_tasks(lend_worker, lending, ready)


def parse_listen(text: str) -> tuple[str, int]:
    """Address and port of `192.0.2.1:9480` or `[::]:9480`. Raises UserError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise _usage(f"{text!r} is not an address and a port", "write it as 0.0.0.0:9480 or [::]:9480")
    return host.strip("[]"), int(port)


def reachable(host: str) -> str:
    """The host in the address that a node is told."""
    if host in ("0.0.0.0", "::"):
        return "<this machine's address>"  # it has several, and the node may know it by yet another one
    return f"[{host}]" if ":" in host else host


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _usage(cause: str, fix: str) -> UserError:
    return UserError(cause, fix, ExitCode.USAGE)
