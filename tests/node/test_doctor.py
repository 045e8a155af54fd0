"""Every check of `p2pml doctor`, well and ill."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from chain.genesis import Genesis
from p2pml.config import Config
from p2pml.home import Home
from p2pml.node import doctor, doctor_online
from p2pml.node.doctor import Finding
from p2pml.node.setup import make_genesis, make_keys
from p2pml.storage.chain_db import ChainDb

NOBODY = 65534
PEER = "12D3KooWLqJ8Ya9zE2cHGtJ8rJZ7J3N4oWpYvWQ8nF6cKk1v3bQm"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    make_keys(made)
    made.genesis_file.write_text(make_genesis([made.root], "lab", "net", {}, 1))
    return made


def genesis_of(home: Home) -> Genesis:
    return Genesis.from_json(home.genesis_file.read_bytes())


def said(finding: Finding) -> tuple[str, str]:
    """Check and level; whatever is not ok says what to do."""
    assert bool(finding.fix) == (finding.level != "ok"), finding
    return finding.check, finding.level


def test_a_healthy_home_has_only_good_findings(home: Home) -> None:
    config, found = doctor.check_config(home)
    assert config == Config()
    network, second = doctor.check_genesis(home)
    assert network == genesis_of(home)
    place, _ = doctor.check_home(home)
    findings = [found, second, place, doctor.check_keys(home), doctor.check_chain_db(home, genesis_of(home))]
    assert [item.level for item in findings] == ["ok"] * 5
    assert doctor.worst(findings) == "ok"


def test_no_home(tmp_path: Path) -> None:
    (finding,) = doctor.check_home(Home(tmp_path / "none"))
    assert said(finding) == ("home", "problem")


def test_a_home_of_another_version(home: Home) -> None:
    home.version_file.write_text("9\n")
    (finding,) = doctor.check_home(home)
    assert said(finding) == ("home", "problem")
    assert "'9'" in finding.cause


def test_keys_that_others_may_open(home: Home) -> None:
    home.keys.chmod(0o750)
    finding, _ = doctor.check_home(home)
    assert said(finding) == ("home", "problem")
    assert finding.fix == f"chmod 700 {home.keys}"


def test_a_home_whose_data_others_may_read(home: Home) -> None:
    home.root.chmod(0o755)
    finding, _ = doctor.check_home(home)
    assert said(finding) == ("home", "warning")
    assert finding.cause == f"other users of this machine may open {home.root}"
    assert finding.fix == f"chmod 700 {home.root}"
    home.keys.chmod(0o750)
    assert said(doctor.check_home(home)[0]) == ("home", "problem")


@contextmanager
def nobody_owns(folder: Path) -> Iterator[None]:
    """Root may write everywhere: ask as somebody else, who owns the folder."""
    if os.geteuid() != 0:
        yield
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    os.setresuid(NOBODY, 0, 0)  # access(2) asks for the real user
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_a_home_that_cannot_be_written() -> None:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        home = Home(Path(folder) / "home")
        make_keys(home)
        with nobody_owns(home.root):
            assert said(doctor.check_home(home)[0]) == ("home", "ok")
            home.root.chmod(0o500)
            assert said(doctor.check_home(home)[0]) == ("home", "problem")


@pytest.mark.parametrize(("free", "level"), [(2**34, "ok"), (2**31, "warning"), (2**20, "problem")])
def test_free_disk(free: int, level: str) -> None:
    assert said(doctor.check_disk(free)) == ("disk", level)


def test_a_bad_config(home: Home) -> None:
    home.config_file.write_text("prot = 1\n")
    config, finding = doctor.check_config(home)
    assert config is None
    assert said(finding) == ("config", "problem")
    assert "port" in finding.fix


@pytest.mark.parametrize("damage", ["missing", "short", "open"])
def test_bad_keys(home: Home, damage: str) -> None:
    if damage == "missing":
        home.validator_key.unlink()
    elif damage == "short":
        home.validator_key.write_bytes(b"short")
    else:
        home.validator_key.chmod(0o644)
    finding = doctor.check_keys(home)
    assert (finding.check, finding.level) == ("keys", "problem")


@pytest.mark.parametrize("content", [None, "{}"])
def test_no_genesis_or_a_bad_one(home: Home, content: str | None) -> None:
    home.genesis_file.unlink()
    if content is not None:
        home.genesis_file.write_text(content)
    network, finding = doctor.check_genesis(home)
    assert network is None
    assert said(finding) == ("network", "problem")


def test_blocks_of_another_network(home: Home) -> None:
    ChainDb(home.chain_db, bytes(32)).close()
    assert doctor.check_chain_db(home, genesis_of(home)).level == "problem"
    home.chain_db.unlink()
    ChainDb(home.chain_db, genesis_of(home).chain_id).close()
    assert doctor.check_chain_db(home, genesis_of(home)).level == "ok"


@pytest.mark.parametrize("name", ["port", "api_port", "websocket_port", "bittorrent_port"])
def test_a_port_that_somebody_holds(name: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        ports = {"port": 0, "api_port": 0, name: holder.getsockname()[1]}
        findings = doctor.check_ports(Config(listen="127.0.0.1", **ports))
    assert {said(item) for item in findings if item.level != "ok"} == {(name, "problem")}
    assert {item.level for item in doctor.check_ports(Config(listen="127.0.0.1", **ports))} == {"ok"}


@pytest.mark.parametrize(
    ("python", "cause"),
    [
        (("sh", "-c", "echo ImportError: no libcudart >&2; exit 1"), "ImportError: no libcudart"),
        (("sh", "-c", "exit 9"), "exit status 9"),
    ],
)
def test_a_tensorflow_that_does_not_load(python: tuple[str, ...], cause: str) -> None:
    finding = doctor.check_worker(Config(), python)
    assert said(finding) == ("worker", "problem")
    assert cause in finding.cause


def test_no_worker_wanted_and_none_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(doctor.check_worker(Config(worker_threads=0), ("false",))) == ("worker", "ok")
    monkeypatch.setattr("p2pml.node.no_worker.find_spec", lambda name: None)
    finding = doctor.check_worker(Config(), ("false",))
    assert finding.level == "warning"
    assert "not installed" in finding.cause


@pytest.mark.slow
def test_the_real_tensorflow_loads() -> None:
    finding = doctor.check_worker(Config(), (sys.executable,))
    assert finding.level == "ok"
    assert finding.cause.startswith("TensorFlow 2.")


STATUS: dict[str, Any] = {
    "chain_id": "ab" * 32, "network": "net", "pid": 1, "uptime_s": 2.0, "peers": 3, "behind": 0,
    "slot": 100, "head": {"height": 90, "slot": 99}, "worker": "ready", "worker_reason": "",
    "worker_rests": [], "slot_ms": 2000, "clock_ms": None, "clock_peers": 0, "clock_limit_ms": 250,
    "heartbeat_slot": None, "rating_problem": "",
}  # fmt: skip


def test_a_daemon_on_another_network(home: Home) -> None:
    genesis = genesis_of(home)
    assert said(doctor_online.check_network(STATUS, genesis)) == ("daemon", "problem")
    right = {**STATUS, "chain_id": genesis.chain_id.hex()}
    assert said(doctor_online.check_network(right, genesis)) == ("daemon", "ok")


def test_no_peers() -> None:
    alone = {**STATUS, "peers": 0}
    assert said(doctor_online.check_peers(STATUS, Config())) == ("peers", "ok")
    assert said(doctor_online.check_peers(alone, Config())) == ("peers", "warning")
    config = Config(bootstrap=(f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}",))
    assert said(doctor_online.check_peers(alone, config)) == ("peers", "problem")


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "ok"),
        ({"behind": 7}, "warning"),
        ({"slot": 200}, "warning"),
        ({"slot": 200, "heartbeat_slot": 180}, "ok"),
        ({"slot": 201, "heartbeat_slot": 180}, "warning"),
    ],
)
def test_a_chain_that_is_behind_or_stands_still(changes: dict[str, Any], level: str) -> None:
    assert said(doctor_online.check_sync({**STATUS, **changes})) == ("sync", level)


@pytest.mark.parametrize(
    ("offset", "level", "words"),
    [
        (250, "ok", "within 250 ms"),
        (251, "problem", "0.3 s behind"),
        (-60_000, "problem", "60.0 s ahead"),
        (900, "problem", "neither proposes nor votes"),
    ],
)
def test_a_clock_against_those_of_the_peers(offset: int, level: str, words: str) -> None:
    [found] = doctor_online.check_clock({**STATUS, "clock_ms": offset, "clock_peers": 3})
    assert (found.check, found.level) == ("clock", level)
    assert words in found.cause
    assert doctor_online.check_clock(STATUS) == []


def test_a_worker_that_is_off() -> None:
    off = {**STATUS, "worker": "off", "worker_reason": "it died three times"}
    assert said(doctor_online.check_worker_state(STATUS, Config())) == ("worker", "ok")
    assert said(doctor_online.check_worker_state({**STATUS, "worker_rests": ["rating"]}, Config()))[1] == "ok"
    paused = doctor_online.check_worker_state({**STATUS, "worker_rests": ["paused"]}, Config())
    assert (paused.level, paused.cause) == ("warning", "it rests: paused by its owner")
    assert said(doctor_online.check_worker_state(off, Config())) == ("worker", "problem")
    assert said(doctor_online.check_worker_state(off, Config(worker_threads=0))) == ("worker", "ok")


def test_a_baseline_data_set_that_is_not_here() -> None:
    assert doctor_online.check_rating(STATUS) == []
    [found] = doctor_online.check_rating({**STATUS, "rating_problem": "the data set 07 is not here"})
    assert (found.check, found.level) == ("rating", "warning")


def report(*reached: bool, ip: str = "192.0.2.7") -> dict[str, Any]:
    places = (f"/ip4/{ip}/tcp/9470", f"/ip4/{ip}/tcp/9480/ws")
    return {"peer_id": "x", "name": "", "ip": ip, "reached": dict(zip(places, reached, strict=False))}


def test_ports_that_peers_reach_or_do_not() -> None:
    tcp, websocket = doctor_online.check_reach([report(False, True), report(False, False)], 2)
    assert said(tcp) == ("reach", "warning")
    assert tcp.cause == "port 9470 unreachable from 2/2 peers, who see this node at 192.0.2.7"
    assert tcp.fix.startswith("forward TCP 9470 on your router")
    assert said(websocket) == ("reach", "ok")
    assert websocket.cause == "port 9480 (WebSocket) reachable from 1/2 peers"


def test_nobody_dials_back() -> None:
    assert doctor_online.check_reach([], 0) == []
    (finding,) = doctor_online.check_reach([], 2)
    assert said(finding) == ("reach", "warning")


@pytest.mark.slow
def test_bootstrap_peers_that_do_not_answer() -> None:
    dead = f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}"
    (finding,) = doctor_online.check_bootstrap(Config(bootstrap=(dead,)))
    assert said(finding) == ("bootstrap", "problem")
    assert dead in finding.cause
    other = f"/ip4/127.0.0.1/tcp/2/p2p/{PEER[:-1]}n"
    findings = doctor_online.check_bootstrap(Config(bootstrap=(dead, other)), [f"{PEER[:-1]}n"])
    assert [said(item) for item in findings] == [("bootstrap", "warning"), ("bootstrap", "ok")]
