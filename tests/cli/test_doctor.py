"""`p2pml doctor` as a command: with the daemon down, up, and stuck."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2pml.cli.app import run
from p2pml.cli.local_network import LocalNetwork
from p2pml.home import Home
from p2pml.node.lock import exclusive

QUIET = "port = 0\napi_port = 0\nworker_threads = 0\n"


def findings(home: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code and the last finding of each check."""
    capsys.readouterr()
    code = run(["doctor", "--home", str(home), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["worst"] == "problem") == (code == 1)
    return code, {item["check"]: item for item in found["findings"]}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = tmp_path / "home"
    assert run(["init", "--home", str(place), "--port", "0", "--api-port", "0"]) == 0
    Home(place).config_file.write_text(QUIET)
    return place


def test_without_a_home_there_is_one_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = findings(tmp_path / "none", capsys)
    assert (code, list(found)) == (1, ["home"])


def test_a_home_without_a_network_is_ill(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = findings(home, capsys)
    assert code == 1
    assert found["network"]["level"] == "problem"
    assert found["daemon"]["level"] == "warning"
    assert "p2pml join" in found["network"]["fix"]


def test_a_home_that_only_has_to_be_started_is_well(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = home / "founded.json"
    assert run(["genesis", "create", str(home), "--out", str(file)]) == 0
    assert run(["init", "--home", str(home), "--genesis", str(file)]) == 0
    capsys.readouterr()
    assert run(["doctor", "--home", str(home)]) == 0
    text = capsys.readouterr().out
    assert "warning  daemon" in text
    assert "fix: start it with `p2pml daemon" in text
    assert "\x1b" not in text


def test_a_daemon_that_holds_the_home_and_does_not_answer(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with exclusive(Home(home).lock_file):
        code, found = findings(home, capsys)
    assert code == 1
    assert "does not answer" in found["daemon"]["cause"]


def test_a_bad_config_is_named_and_the_rest_still_looked_at(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Home(home).config_file.write_text("port = 99999\n")
    code, found = findings(home, capsys)
    assert code == 1
    assert found["config"]["level"] == "problem"
    assert found["keys"]["level"] == "ok"


@pytest.mark.slow
def test_two_nodes_that_run_are_well_and_reach_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LocalNetwork(tmp_path, 2, workers=False) as network:
        network.start()
        first, second = network.nodes
        network.wait("not connected", lambda: second.get("/status")["peers"] == 1 or None, 60)
        network.wait("no block", lambda: second.get("/status")["head"]["height"] >= 1 or None, 60)
        code, found = findings(second.home.root, capsys)
        assert (code, found["daemon"]["level"], found["peers"]["cause"]) == (0, "ok", "1 connected")
        port = second.multiaddr.split("/")[4]
        assert found["reach"]["cause"] == f"port {port} reachable from 1/1 peers"
        assert found["bootstrap"]["level"] == "ok"
        first.kill()
        network.nodes.remove(first)
        network.wait("still connected", lambda: second.get("/status")["peers"] == 0 or None, 60)
        code, found = findings(second.home.root, capsys)
        assert (code, found["bootstrap"]["level"], found["peers"]["level"]) == (1, "problem", "problem")
