"""What `p2pml worker …` and `p2pml status` say about the worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2pml.cli.local_network import LocalNetwork
from p2pml.cli.node_commands import describe as describe_node
from p2pml.cli.worker_commands import describe
from tests.cli.test_daemon import p2pml
from tests.cli.test_status_text import STATUS

READY: dict[str, Any] = {
    "state": "ready", "reason": "", "rests": [], "pid": 77, "versions": {"tensorflow": "2.14.1"}, "starts": 1,
    "limits": {"threads": 2, "cpu": 50, "memory": 3 << 30, "nice": 10, "idle_only": True}, "task_minutes": 60,
}  # fmt: skip


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_status_names_each_reason_to_rest() -> None:
    assert lines(describe(READY)) == [
        "worker ready",
        "process PID 77",
        "with tensorflow 2.14.1",
        "limits 2 threads at 50 %, 3072 MiB, nice 10, 60 min a task, on an idle machine only",
    ]
    resting = describe(READY | {"rests": ["rating", "paused"], "starts": 3})
    assert lines(resting)[0] == "worker ready, resting: in a rating window, paused by its owner"
    assert lines(resting)[1] == "process PID 77, started 3 times"
    off = READY | {"state": "off", "reason": "no TensorFlow", "pid": None, "limits": None}
    assert lines(describe(off)) == ["worker off: no TensorFlow"]


def test_the_nodes_status_says_it_too() -> None:
    text = describe_node({**STATUS, "worker_rests": ["load"]}, [])
    assert "worker ready, resting: its machine is busy with other work" in lines(text)


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
