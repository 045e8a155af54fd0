"""What may be wrong with a node, as far as its home and this machine tell: no daemon needed.

Each check gives one finding or several, with what is the matter and what to do. What only a running daemon
knows is in `doctor_online`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from chain.genesis import Genesis
from p2pml.config import Config
from p2pml.errors import UserError
from p2pml.home import Home
from p2pml.node.genesis_file import read_genesis

Level = Literal["ok", "warning", "problem"]

DISK_WARNING = 5 * 2**30
DISK_PROBLEM = 2**28
PROBE_S = 180.0
_PROBE = """
from p2pml.worker.quiet import silence
silence()
import tensorflow, tensorflow_federated
assert float(tensorflow.reduce_sum(tensorflow.ones(8))) == 8.0
print("TensorFlow", tensorflow.__version__, "and TensorFlow Federated", tensorflow_federated.__version__)
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report.

    Args:
        check: what was looked at.
        level: `ok`, `warning` (it works, with less) or `problem`.
        cause: what was found.
        fix: what to do; empty when there is nothing to do.
    """

    check: str
    level: Level
    cause: str
    fix: str = ""


def from_error(check: str, error: UserError) -> Finding:
    """A problem that the project's own code found."""
    return Finding(check, "problem", error.cause, error.fix)


def check_home(home: Home) -> list[Finding]:
    """Whether the home exists, is of this version, is ours alone, and has room."""
    if not home.root.is_dir():
        return [
            Finding(
                "home",
                "problem",
                f"there is no home at {home.root}",
                "make one with `p2pml init` or `p2pml join INVITE`, or name another --home",
            )
        ]
    try:
        home.check_version()
    except UserError as error:
        return [from_error("home", error)]
    if not os.access(home.root, os.W_OK | os.X_OK):
        found = Finding("home", "problem", f"{home.root} is not writable", "run p2pml as the home's owner")
    elif exposed := [place for place in (home.root, home.keys, home.run_dir) if _others_may(place)]:
        names = [str(place) for place in exposed]
        found = Finding(
            "home",
            "warning" if exposed == [home.root] else "problem",
            f"other users of this machine may open {' and '.join(names)}",
            f"chmod 700 {' '.join(names)}",
        )
    else:
        found = Finding("home", "ok", f"{home.root}, for its owner alone")
    return [found, check_disk(shutil.disk_usage(home.root).free)]


def _others_may(place: os.PathLike[str]) -> bool:
    try:
        return bool(os.stat(place).st_mode & 0o077)
    except FileNotFoundError:
        return False  # made at the next start, closed to others


def check_disk(free: int) -> Finding:
    """Judge `free` bytes on the home's file system."""
    cause = f"{free / 2**30:.1f} GiB are free"
    if free >= DISK_WARNING:
        return Finding("disk", "ok", cause)
    level: Level = "problem" if free < DISK_PROBLEM else "warning"
    return Finding("disk", level, cause, "make room, or move the home to a larger disk")


def check_config(home: Home) -> tuple[Config | None, Finding]:
    """The configuration, if it can be read."""
    try:
        config = Config.load(home)
    except UserError as error:
        return None, from_error("config", error)
    missing = "" if home.config_file.exists() else ", there is no file: all defaults"
    return config, Finding("config", "ok", f"{home.config_file}{missing}")


def check_keys(home: Home) -> Finding:
    """Whether the node's and the validator's keys are there, readable and secret."""
    from chain import address
    from chain.crypto import Keypair
    from p2pml.identity import NodeKeys
    from p2pml.storage.keystore import Keystore

    try:
        account = address.encode(Keypair.from_seed(NodeKeys.load(home).validator).public)
        wallets = len(Keystore(home.keystore).list())
    except UserError as error:
        return from_error("keys", error)
    return Finding("keys", "ok", f"validator {account}; {wallets} wallets")


def check_genesis(home: Home) -> tuple[Genesis | None, Finding]:
    """The network that the home belongs to."""
    if not home.genesis_file.exists():
        return None, Finding(
            "network",
            "problem",
            "the home belongs to no network yet: it has no genesis.json",
            "join one with `p2pml join INVITE`, or found one with `p2pml genesis create`",
        )
    try:
        genesis = read_genesis(home.genesis_file)
    except UserError as error:
        return None, from_error("network", error)
    return genesis, Finding("network", "ok", f"{genesis.chain_name}, chain id {genesis.chain_id.hex()[:16]}")


def check_chain_db(home: Home, genesis: Genesis) -> Finding:
    """Whether the blocks on disk are this network's. The daemon must not run."""
    from p2pml.storage.chain_db import ChainDb

    if not home.chain_db.exists():
        return Finding("chain", "ok", "no block yet")
    try:
        ChainDb(home.chain_db, genesis.chain_id).close()
    except UserError as error:
        return from_error("chain", error)
    return Finding("chain", "ok", "the blocks on disk are this network's")


def check_ports(config: Config) -> list[Finding]:
    """Whether a daemon could listen where it is told to. The daemon must not run."""
    wanted = [("port", config.listen, config.port), ("api_port", "127.0.0.1", config.api_port)]
    if config.websocket_port:
        wanted.append(("websocket_port", config.listen, config.websocket_port))
    if config.bittorrent_port:
        wanted.append(("bittorrent_port", config.listen, config.bittorrent_port))
    return [_check_port(name, host, port) for name, host, port in wanted]


def _check_port(name: str, host: str, port: int) -> Finding:
    if port == 0:
        return Finding(name, "ok", "the system will choose one")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return Finding(
                name,
                "problem",
                f"{host} port {port} cannot be had: {error.strerror or error}",
                f"end what listens there (`ss -ltnp 'sport = :{port}'`), or set another {name}",
            )
    return Finding(name, "ok", f"{host} port {port} is free")


def check_worker(config: Config, python: Sequence[str] = (sys.executable,)) -> Finding:
    """Whether TensorFlow can be imported and adds; takes its time.

    Args:
        python: the command to try it with.
    """
    from p2pml.node.no_worker import reason_for_no_worker

    if reason := reason_for_no_worker(config):
        level: Level = "ok" if config.worker_threads == 0 else "warning"
        return Finding("worker", level, f"no training on this node: {reason}")
    if config.worker:
        return Finding("worker", "ok", f"on another machine, {config.worker}; a running daemon says more")
    try:
        probe = subprocess.run(
            [*python, "-c", _PROBE], capture_output=True, text=True, timeout=PROBE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding("worker", "problem", f"TensorFlow did not load within {PROBE_S:g} s", _REINSTALL)
    if probe.returncode:
        last = (probe.stderr.strip().splitlines() or [f"exit status {probe.returncode}"])[-1]
        return Finding("worker", "problem", f"TensorFlow does not work: {last}", _REINSTALL)
    return Finding("worker", "ok", probe.stdout.strip().splitlines()[-1])


_REINSTALL = "install p2pml again with its extra, p2pml[train], or set worker_threads = 0"


def worst(findings: Iterable[Finding]) -> Level:
    """The gravest level among them."""
    levels = {item.level for item in findings}
    return "problem" if "problem" in levels else "warning" if "warning" in levels else "ok"
