"""`p2pml doctor`: one line for each thing that may be wrong, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import emit, emit_json, say, styled
from p2pml.client import NodeClient
from p2pml.config import Config
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home

if TYPE_CHECKING:
    from chain.genesis import Genesis
    from p2pml.node.doctor import Finding

_MARKS = {"ok": ("ok     ", "32"), "warning": ("warning", "33"), "problem": ("problem", "31")}


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Look for what keeps this node from working, running or not. Exit code 1 if there is a problem."""
    from p2pml.node.doctor import worst

    findings = examine(Home.locate(home))
    level = worst(findings)
    if as_json:
        emit_json({"worst": level, "findings": [asdict(item) for item in findings]})
    else:
        emit("\n".join(_lines(findings)))
    if level == "problem":
        raise typer.Exit(int(ExitCode.FAILURE))


def examine(home: Home) -> list[Finding]:
    """All findings about a home, its machine, its daemon and its peers."""
    from p2pml.node import doctor as offline

    findings = offline.check_home(home)
    if not home.root.is_dir():
        return findings
    config, found = offline.check_config(home)
    findings += [found, offline.check_keys(home)]
    genesis, found = offline.check_genesis(home)
    findings.append(found)
    if config is None:
        return findings
    return findings + _daemon(home, config, genesis)


def _daemon(home: Home, config: Config, genesis: Genesis | None) -> list[Finding]:
    from p2pml.node.doctor import Finding, from_error
    from p2pml.node.lock import holder

    try:
        with NodeClient(home) as node:
            return _with_daemon(node, config, genesis)
    except UserError as error:
        if error.code is not ExitCode.DAEMON_DOWN:
            return [from_error("daemon", error)]
    if found := holder(home.lock_file):
        cause = f"PID {found.pid} holds the home since {found.since} and does not answer"
        fix = f"look at {home.logs / 'node.log'}; if it is stuck, `kill {found.pid}`"
        return [Finding("daemon", "problem", cause, fix)]
    return _without_daemon(home, config, genesis)


def _without_daemon(home: Home, config: Config, genesis: Genesis | None) -> list[Finding]:
    from p2pml.node import doctor as offline
    from p2pml.node.doctor_online import check_bootstrap

    fix = f"start it with `p2pml daemon --home {home.root}`"
    findings = [offline.Finding("daemon", "warning", "it does not run", fix), *offline.check_ports(config)]
    if genesis is not None:
        findings.append(offline.check_chain_db(home, genesis))
    findings += check_bootstrap(config)
    if config.worker_threads:
        say("trying TensorFlow …")
    return [*findings, offline.check_worker(config)]


def _with_daemon(node: NodeClient, config: Config, genesis: Genesis | None) -> list[Finding]:
    from p2pml.node import doctor_online as online

    status: dict[str, Any] = node.get("/status")
    connected = [peer["peer_id"] for peer in node.get("/peers") if peer["connected"]]
    return [
        online.check_network(status, genesis),
        *online.check_bootstrap(config, connected),
        online.check_peers(status, config),
        *online.check_reach(node.post("/reachability", timeout_s=60.0), status["peers"]),
        online.check_sync(status),
        *online.check_clock(status),
        online.check_worker_state(status, config),
        *online.check_rating(status),
    ]


def _lines(findings: list[Finding]) -> list[str]:
    width = max(len(item.check) for item in findings)
    lines = []
    for item in findings:
        word, colour = _MARKS[item.level]
        lines.append(f"{styled(word, colour)}  {item.check.ljust(width)}  {item.cause}")
        if item.fix:
            lines.append(f"{' ' * (width + 11)}{styled('fix:', '1')} {item.fix}")
    return lines
