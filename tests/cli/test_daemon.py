"""The real daemon, driven by the real commands: one node without a training process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from p2pml.cli.local_network import LocalNetwork, LocalNode
from p2pml.client import ApiEvent, NodeClient
from p2pml.home import Home

pytestmark = pytest.mark.slow

SPEC = """\
name: x
model: {builder: softmax}
data: {train: digits.tar}
rounds: {max: 1}
"""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def p2pml(*arguments: str, home: Path | None = None, **environment: str) -> Outcome:
    import os

    command = [sys.executable, "-m", "p2pml", *arguments, *(["--home", str(home)] if home else [])]
    variables = {**os.environ, "P2PML_PASSPHRASE": "secret", **environment}
    result = subprocess.run(command, capture_output=True, text=True, timeout=90, env=variables)
    assert "Traceback" not in result.stdout + result.stderr
    return Outcome(result.returncode, result.stdout, result.stderr)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    with LocalNetwork(tmp_path_factory.mktemp("net"), 1, workers=False) as network:
        network.start()

        def has_block() -> bool | None:
            return True if network.nodes[0].get("/status")["head"]["height"] >= 1 else None

        network.wait("no block", has_block, 60)
        yield network.nodes[0]


def test_status_tells_where_everything_stands(node: LocalNode) -> None:
    status = p2pml("status", "--json", home=node.home.root).json
    assert status["peer_id"] == node.peer_id
    assert status["account"] == node.address
    assert status["addresses"] == [node.multiaddr]
    assert status["worker"] == "off"
    assert "worker_threads" in status["worker_reason"]
    text = p2pml("status", home=node.home.root).out
    assert "worker   off: worker_threads is 0" in text
    assert "\x1b" not in text


def test_the_chain_grows_and_its_books_add_up(node: LocalNode) -> None:
    head = p2pml("chain", "head", "--json", home=node.home.root).json
    for name in (head["id"], str(head["height"])):
        shown = p2pml("chain", "show", name, "--json", home=node.home.root).json
        assert shown == head | {"final": shown["final"]}  # which becomes true meanwhile
    (validator,) = p2pml("chain", "validators", "--json", home=node.home.root).json
    assert (validator["name"], validator["share"]) == ("node1", 1.0)
    supply = p2pml("chain", "supply", "--json", home=node.home.root).json
    assert supply["adds_up"]
    held = supply["balances"] + supply["escrow"] + supply["bonds"] + supply["vesting"]
    assert held == supply["genesis"] + supply["issued"] - supply["burned"]
    assert p2pml("chain", "show", "99999999", home=node.home.root).code == 1
    assert p2pml("chain", "show", "nonsense", home=node.home.root).code == 2
    assert p2pml("chain", "tx", "00" * 32, home=node.home.root).code == 1


def test_a_second_daemon_on_the_home_names_the_first(node: LocalNode) -> None:
    assert node.process is not None
    second = p2pml("daemon", home=node.home.root)
    assert second.code == 1
    assert f"PID {node.process.pid} since 20" in second.err
    assert "p2pml stop" in second.err
    assert len(second.err.splitlines()) == 2


@pytest.mark.parametrize("which", ["port", "api-port"])
def test_a_port_in_use_is_one_line(node: LocalNode, tmp_path: Path, which: str) -> None:
    taken = node.port if which == "port" else node.api_port
    options = {"port": "0", "api-port": "0", which: str(taken)}
    given = [item for key, value in options.items() for item in (f"--{key}", value)]
    assert p2pml("init", "--listen", "127.0.0.1", *given, home=tmp_path).code == 0
    failed = p2pml("daemon", "--genesis", str(node.home.genesis_file), home=tmp_path)
    assert failed.code == 1
    assert failed.err.startswith("error: ")
    assert str(taken) in failed.err.splitlines()[0]
    assert len(failed.err.splitlines()) == 2


def test_a_daemon_without_a_network_says_how_to_get_one(tmp_path: Path) -> None:
    assert p2pml("init", "--port", "0", "--api-port", "0", home=tmp_path).code == 0
    failed = p2pml("daemon", home=tmp_path)
    assert failed.code == 7
    assert "genesis" in failed.err


def test_tokens_travel_from_wallet_to_wallet(node: LocalNode) -> None:
    home = node.home.root
    alice = p2pml("wallet", "new", "alice", home=home).out.strip()
    bob = p2pml("wallet", "new", "bob", home=home).out.strip()
    poor = p2pml("wallet", "send", bob, "1", "--from", "alice", home=home)
    assert (poor.code, "has 0 tokens" in poor.err) == (1, True)
    paid = p2pml("wallet", "send", "alice", "12.5", "--json", home=home).json
    assert (paid["type"], paid["payload"]["to"], paid["payload"]["amount"]) == (
        "transfer",
        alice,
        1_250_000_000,
    )
    assert paid["height"] >= 1
    assert p2pml("wallet", "send", bob, "2", "--from", "alice", "--memo", "thanks", home=home).code == 0
    assert p2pml("wallet", "balance", "alice", home=home).out == "10.4\n", "12.5 less 2 and the fee of 0.1"
    assert p2pml("wallet", "balance", "bob", home=home).out == "2\n"
    (received,) = p2pml("wallet", "history", "bob", "--json", home=home).json
    assert received["payload"]["memo"] == "thanks"
    wrong = p2pml("wallet", "send", bob, "1", "--from", "alice", home=home, P2PML_PASSPHRASE="guess")
    assert (wrong.code, "wrong passphrase" in wrong.err) == (4, True)
    mistyped = bob[:-1] + ("a" if bob[-1] != "a" else "e")
    assert p2pml("wallet", "send", mistyped, "1", home=home).code == 2
    assert p2pml("wallet", "send", bob, "1e9", home=home).code == 1


def test_a_transaction_of_another_network_is_refused(node: LocalNode) -> None:
    with NodeClient(node.home) as client, pytest.raises(Exception, match="refused") as caught:
        client.post("/transactions", {"transaction": "00"})
    assert caught.value.code == 1  # type: ignore[attr-defined]


def test_a_spec_with_an_unknown_key_is_7_and_names_line_and_key(node: LocalNode, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(SPEC + "agregate: {rule: mean}\n")
    failed = p2pml("train", "--job", str(path), home=node.home.root)
    assert failed.code == 7
    assert f"{path}:5: unknown key 'agregate'" in failed.err
    assert "did you mean 'aggregate'?" in failed.err


def test_a_job_needs_a_worker_at_home(node: LocalNode, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(SPEC)
    failed = p2pml("train", "--job", str(path), home=node.home.root)
    assert failed.code == 15
    assert "worker" in failed.err
    assert p2pml("job", "ls", "--json", home=node.home.root).json == []
    assert p2pml("job", "show", "ffff", home=node.home.root).code == 1


def test_data_is_offered_listed_and_copied_out(node: LocalNode, tmp_path: Path) -> None:
    home, source = node.home.root, tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "a.bin").write_bytes(b"a" * 100_000)
    (source / "deep" / "b.txt").write_text("hello")
    seeded = p2pml("seed", str(source), "--name", "things", "--json", home=home).json
    assert seeded["complete"]
    assert {item["path"] for item in seeded["files"]} == {"a.bin", "deep/b.txt"}
    assert Path(seeded["torrent_file"]).is_file()
    assert "things" in p2pml("data", "ls", home=home).out
    assert p2pml("data", "info", seeded["infohash"], home=home).code == 0
    got = p2pml("data", "get", seeded["torrent_file"], "--to", str(tmp_path / "out"), home=home)
    assert got.code == 0, got.err
    assert (tmp_path / "out" / "deep" / "b.txt").read_text() == "hello"
    assert p2pml("data", "info", "nothing", home=home).code == 1


@pytest.mark.parametrize("content", [b"", b"d4:infoi1ee", b"\x00" * 1000, b"d" * 100_000])
def test_a_corrupt_torrent_is_refused(node: LocalNode, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.torrent"
    path.write_bytes(content)
    failed = p2pml("data", "get", str(path), home=node.home.root)
    assert failed.code == 1
    assert failed.err.startswith("error: ")


def test_the_port_only_looks_and_knows_its_name(node: LocalNode) -> None:
    base = f"http://127.0.0.1:{node.api_port}"
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"{base}/api/v1/status").json()["peer_id"] == node.peer_id
        assert client.get(f"{base}/readyz").status_code == 200
        assert client.post(f"{base}/api/v1/shutdown").status_code == 404
        rebound = client.get(f"{base}/api/v1/status", headers={"Host": "evil.example"})
        assert rebound.status_code == 421


def test_watching_prints_until_interrupted(node: LocalNode) -> None:
    import signal

    command = [sys.executable, "-m", "p2pml", "status", "--watch", "--home", str(node.home.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("height ")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err


def first_event(node: LocalNode, after: int) -> ApiEvent:
    with NodeClient(node.home) as client, closing(client.events(after)) as events:
        return next(events)


def test_power_cut_restart_and_stop_in_a_home_with_a_long_path(tmp_path: Path) -> None:
    root = tmp_path / ("long" * 30)
    with LocalNetwork(root, 1, workers=False, idle=False) as network:
        (node,) = network.nodes
        assert len(str(node.home.api_socket)) > 107
        network.start()

        def height_above(least: int) -> int:
            def check() -> int | None:
                height = int(node.get("/status")["head"]["height"])
                return height if height > least else None

            return network.wait("no block", check, 60)

        before = height_above(1)
        kept = node.get("/blocks/1")["id"]
        seen = first_event(node, 0).id
        node.kill()
        assert p2pml("status", home=node.home.root).code == 3
        node.start()
        assert height_above(before) > before
        assert node.get("/blocks/1")["id"] == kept
        assert first_event(node, seen).kind == "gap", "its ids are not those of the run before"
        pid = json.loads(node.home.lock_file.read_text())["pid"]
        stopped = p2pml("stop", "--json", home=node.home.root)
        assert stopped.code == 0, stopped.err
        assert json.loads(stopped.out) == {"home": str(node.home.root), "pid": pid}
        assert node.wait_stopped(10) == 0
        assert not Home(node.home.root).api_socket.exists()
        assert p2pml("stop", home=node.home.root).code == 3


BROKEN = """
import sys
from p2pml.api import daemon
from p2pml.cli.app import run

async def run_node(home, config, *, task_status):
    raise RuntimeError("boom")

daemon.run_node = run_node
sys.exit(run(["daemon", "--home", sys.argv[1], "--api-port", "0"]))
"""


def test_what_ends_a_daemon_is_in_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BROKEN, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert result.returncode == 1
    assert "error: unexpected: RuntimeError: boom" in result.stderr
    logged = (Home(tmp_path).logs / "node.log").read_text()
    assert "Traceback" in logged
    assert "RuntimeError: boom" in logged


def test_a_daemon_ends_with_whoever_started_it(tmp_path: Path) -> None:
    with LocalNetwork(tmp_path, 1, workers=False) as network:
        (node,) = network.nodes
        network.start()
        network.wait("no answer", lambda: node.get("/status") and True, 60)
        assert node.process is not None
        assert node.process.stdin is not None
        node.process.stdin.close()
        begin = time.monotonic()
        assert node.wait_stopped(20) == 0
        assert time.monotonic() - begin < 15
