"""What `p2pml worker …` and `p2pml status` say about the worker."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from p2pml.cli.app import run
from p2pml.cli.local_network import LocalNetwork
from p2pml.cli.node_commands import describe as describe_node
from p2pml.cli.worker_commands import describe
from p2pml.cli.worker_serve import parse_listen, reachable
from p2pml.errors import ExitCode, UserError
from tests.cli.test_daemon import p2pml
from tests.cli.test_status_text import STATUS

SERVE = ["worker", "serve", "--token-file"]
READY: dict[str, Any] = {
    "state": "ready", "reason": "", "rests": [], "pid": 77, "versions": {"tensorflow": "2.14.1"}, "starts": 1,
    "isolated": True,
    "limits": {"threads": 2, "cpu": 50, "memory": 3 << 30, "nice": 10, "idle_only": True}, "task_minutes": 60,
}  # fmt: skip


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_status_names_each_reason_to_rest() -> None:
    assert lines(describe(READY)) == [
        "worker ready",
        "process PID 77",
        "with tensorflow 2.14.1",
        "network cut off from it",
        "limits 2 threads at 50 %, 3072 MiB, nice 10, 60 min a task, on an idle machine only",
    ]
    resting = describe(READY | {"rests": ["rating", "paused"], "starts": 3})
    assert lines(resting)[0] == "worker ready, resting: in a rating window, paused by its owner"
    assert lines(resting)[1] == "process PID 77, started 3 times"
    assert "not cut off" in lines(describe(READY | {"isolated": False}))[3]
    off = READY | {"state": "off", "reason": "no TensorFlow", "pid": None, "limits": None}
    assert lines(describe(off)) == ["worker off: no TensorFlow"]


def test_the_nodes_status_says_it_too() -> None:
    text = describe_node({**STATUS, "worker_rests": ["load"]}, [])
    assert "worker ready, resting: its machine is busy with other work" in lines(text)


def test_where_to_listen() -> None:
    assert parse_listen("192.0.2.1:9480") == ("192.0.2.1", 9480)
    assert parse_listen("[::]:0") == ("::", 0)
    assert parse_listen("localhost:65535") == ("localhost", 65535)


@pytest.mark.parametrize("text", ["9480", ":9480", "a", "a:", "a:b", "a:65536", "a:-1", "a:²"])
def test_what_is_no_place_to_listen(text: str) -> None:
    with pytest.raises(UserError, match="not an address and a port") as caught:
        parse_listen(text)
    assert caught.value.code is ExitCode.USAGE


def test_the_address_for_the_node_is_one_that_it_can_use() -> None:
    assert reachable("192.0.2.1") == "192.0.2.1"
    assert reachable("2001:db8::1") == "[2001:db8::1]"
    assert reachable("0.0.0.0") == reachable("::") == "<this machine's address>"


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--no-tls"], ExitCode.USAGE, "--no-tls on 0.0.0.0"),
        (["--no-tls", "--listen", "192.0.2.1:1"], ExitCode.USAGE, "--no-tls on 192.0.2.1"),
        (["--no-tls", "--listen", "example.org:1"], ExitCode.USAGE, "--no-tls on example.org"),
        (["--tls-cert", "c"], ExitCode.USAGE, "belong together"),
        (["--tls-key", "k"], ExitCode.USAGE, "belong together"),
        (["--memory-mb", "1023"], ExitCode.BAD_CONFIG, "worker_memory_mb is 1023"),
        (["--trainer", "a b"], ExitCode.BAD_CONFIG, "worker_trainers has 'a b'"),
    ],
)
def test_what_a_worker_is_not_lent_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: ExitCode, words: str
) -> None:
    assert run([*SERVE, str(tmp_path / "token"), *options]) == code
    assert words in capsys.readouterr().err
    assert not (tmp_path / "token").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code", "words"), [("INT", 130, "interrupted"), ("TERM", 0, "SIGTERM")])
def test_a_lent_worker_ends_in_order(tmp_path: Path, number: str, code: int, words: str) -> None:
    # Who started the tests in the background of a shell has SIGINT ignored, and children inherit that.
    program = (
        "import signal as s; s.signal(s.SIGINT, s.default_int_handler); from p2pml.cli import main; main()"
    )
    serve = [sys.executable, "-c", program, *SERVE, str(tmp_path / "token"), "--folder", str(tmp_path)]
    with subprocess.Popen(
        [*serve, "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert "wss://127.0.0.1:" in process.stdout.readline()
            os.killpg(process.pid, signal.Signals[f"SIG{number}"])  # as a terminal does: to all of them
            _, said = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, "error" in said) == (code, False)
    assert words in said


@pytest.mark.slow
def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        failed = p2pml(*SERVE, str(tmp_path / "token"), "--folder", str(tmp_path), "--listen", place)
    assert failed.code == ExitCode.BAD_CONFIG
    assert "cannot be had" in failed.err


@pytest.mark.slow
def test_a_pause_survives_a_restart_of_the_daemon(tmp_path: Path) -> None:
    with LocalNetwork(tmp_path, 1, settings={"rating": False}) as network:
        [node] = network.nodes

        def rests() -> list[str]:
            found: list[str] = network.wait("no answer", lambda: node.get("/worker")["rests"], 60)
            return found

        network.start()
        assert rests() == []
        paused = p2pml("worker", "pause", "--json", home=node.home.root)
        assert paused.json["rests"] == ["paused"]
        node.kill()
        network.start()
        assert rests() == ["paused"]
        assert "resting: paused by its owner" in p2pml("worker", "status", home=node.home.root).out
        assert p2pml("worker", "resume", "--json", home=node.home.root).json["rests"] == []
        node.kill()
        network.start()
        assert rests() == []


@pytest.mark.slow
def test_a_node_without_a_worker_has_none_to_pause(tmp_path: Path) -> None:
    with LocalNetwork(tmp_path, 1, workers=False) as network:
        network.start()
        [node] = network.nodes
        network.wait("no answer", lambda: node.get("/worker"), 60)
        refused = p2pml("worker", "pause", home=node.home.root)
        assert refused.code == 1
        assert "worker_threads is 0" in refused.err
