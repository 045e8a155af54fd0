"""What may be wrong with a node, as far as its daemon and the network tell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from chain.genesis import Genesis
from p2pml.config import Config
from p2pml.node.doctor import Finding
from p2pml.worker.rests import lasting

DIAL_S = 10.0
STALL_SLOTS = 20
"""Slots without a block that was due after which the chain counts as standing still."""


def check_network(status: dict[str, Any], genesis: Genesis | None) -> Finding:
    """Whether the daemon runs on the genesis that is in its home."""
    if genesis is not None and status["chain_id"] != genesis.chain_id.hex():
        return Finding(
            "daemon",
            "problem",
            f"it runs on the network {status['network']!r}, the home's genesis.json is another's",
            "restart it: `p2pml stop`, then `p2pml daemon`",
        )
    return Finding("daemon", "ok", f"PID {status['pid']}, up {status['uptime_s']:.0f} s, {status['network']}")


def check_peers(status: dict[str, Any], config: Config) -> Finding:
    """How many peers are connected."""
    count = status["peers"]
    if count:
        return Finding("peers", "ok", f"{count} connected")
    if config.bootstrap:
        return Finding("peers", "problem", "none is connected", "see what `bootstrap` says above")
    return Finding(
        "peers", "warning", "none is connected", "send `p2pml invite` to a friend, or add to bootstrap"
    )


def check_sync(status: dict[str, Any]) -> Finding:
    """Whether the node follows the newest blocks."""
    head = status["head"]
    if status["behind"] > 1:
        return Finding(
            "sync", "warning", f"{status['behind']} blocks behind its peers", "wait: it catches up"
        )
    silent = status["slot"] - max(head["slot"], 0)
    beat = status["heartbeat_slot"]
    if silent > STALL_SLOTS and (beat is None or status["slot"] - beat > STALL_SLOTS):
        return Finding(
            "sync",
            "warning",
            f"no block for {silent} slots",
            "compare this machine's clock and network with other nodes'; the validators may be down",
        )
    idle = "" if beat is None else f"; nothing waits, next block by slot {beat} (now {status['slot']})"
    return Finding("sync", "ok", f"height {head['height']}, {silent} slots ago{idle}")


def check_clock(status: dict[str, Any]) -> list[Finding]:
    """How far this machine's clock is from those of the peers; nothing before they were asked."""
    offset, peers = status["clock_ms"], status["clock_peers"]
    if offset is None:
        return []
    if abs(offset) <= status["clock_limit_ms"]:
        return [Finding("clock", "ok", f"within {abs(offset)} ms of that of {peers} peers")]
    side = "behind" if offset > 0 else "ahead of"
    return [
        Finding(
            "clock",
            "problem",
            f"{abs(offset) / 1000:.1f} s {side} that of {peers} peers, over an eighth of a slot: this node "
            "neither proposes nor votes",
            "set it, best by NTP",
        )
    ]


def check_worker_state(status: dict[str, Any], config: Config) -> Finding:
    """What the daemon says of its training process."""
    if reason := lasting(status["worker_rests"]):
        return Finding("worker", "warning", f"it rests: {reason}", "`p2pml worker status` tells more")
    if status["worker"] == "starting" and status["worker_reason"]:
        see = "that it runs, and can be reached" if config.worker else "logs/worker.log in the home"
        return Finding("worker", "warning", status["worker_reason"], f"see {see}")
    if status["worker"] != "off":
        return Finding("worker", "ok", status["worker"])
    if config.worker_threads == 0:
        return Finding("worker", "ok", f"no training on this node: {status['worker_reason']}")
    see = (
        "`worker`, its token and fingerprint in config.toml"
        if config.worker
        else "logs/worker.log in the home"
    )
    return Finding("worker", "problem", f"off: {status['worker_reason']}", f"see {see}")


def check_rating(status: dict[str, Any]) -> list[Finding]:
    """Whether the node could take part in a rating window."""
    if not status["rating_problem"]:
        return []
    fix = "wait, or see `p2pml data ls`: without it this node gets no rating in the next window"
    return [Finding("rating", "warning", status["rating_problem"], fix)]


def check_reach(reports: Sequence[dict[str, Any]], peers: int) -> list[Finding]:
    """What peers found who dialled this node back.

    Args:
        reports: `ReachView` as JSON.
        peers: connected now.
    """
    if not reports:
        if not peers:
            return []
        return [Finding("reach", "warning", "no peer could be made to dial back", "try again in a minute")]
    findings, asked = [], len(reports)
    kinds = {_port(location) for report in reports for location in report["reached"]}
    for number, suffix in sorted(kinds):
        reached = sum(
            any(yes and _port(location) == (number, suffix) for location, yes in report["reached"].items())
            for report in reports
        )
        name = f"port {number}{suffix}"
        if reached:
            findings.append(Finding("reach", "ok", f"{name} reachable from {reached}/{asked} peers"))
        else:
            seen = ", ".join(sorted({report["ip"] for report in reports}))
            findings.append(
                Finding(
                    "reach",
                    "warning",
                    f"{name} unreachable from {asked}/{asked} peers, who see this node at {seen}",
                    f"forward TCP {number} on your router and open it in the firewall; until then this node "
                    "can only dial out",
                )
            )
    return findings


def _port(location: str) -> tuple[int, str]:
    parts = location.strip("/").split("/")
    return int(parts[3]), " (WebSocket)" if parts[-1] == "ws" else ""


def check_bootstrap(config: Config, connected: Sequence[str] = ()) -> list[Finding]:
    """Whether the bootstrap peers answer; those connected do.

    Args:
        connected: ids of the daemon's connected peers.
    """
    waiting = [item for item in config.bootstrap if item.rpartition("/p2p/")[2] not in connected]
    problems = _dial(waiting) if waiting else {}
    findings = []
    all_dead = len(problems) == len(config.bootstrap)
    for address in config.bootstrap:
        if address in problems:
            findings.append(
                Finding(
                    "bootstrap",
                    "problem" if all_dead else "warning",
                    f"{address} does not answer: {problems[address]}",
                    "ask its owner whether it runs and what `p2pml status` says there; correct config.toml",
                )
            )
        else:
            findings.append(Finding("bootstrap", "ok", f"{address} answers"))
    return findings


def _dial(addresses: Sequence[str]) -> dict[str, str]:
    """What went wrong, by address, dialling each under a key of its own."""
    import trio

    from p2pml.net.errors import RemoteError
    from p2pml.net.host import Host

    problems: dict[str, str] = {}

    async def dial(host: Host, address: str) -> None:
        try:
            await host.connect(address, DIAL_S)
        except (RemoteError, ValueError) as error:
            problems[address] = str(error)

    async def main() -> None:
        async with Host(os.urandom(32), port=None).running() as host, trio.open_nursery() as nursery:
            for address in addresses:
                nursery.start_soon(dial, host, address)

    trio.run(main, strict_exception_groups=True)
    return problems
