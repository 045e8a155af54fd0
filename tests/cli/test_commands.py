"""Commands without a daemon: exit codes, one line of cause and one of fix, data on stdout."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from chain.genesis import Genesis
from p2pml.cli.app import app, run
from p2pml.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    assert run(["init", "--home", str(tmp_path / "home"), "--name", "me", "--port", "0"]) == 0
    return tmp_path / "home"


@pytest.mark.parametrize(
    "command",
    [
        ["status"], ["chain", "head"], ["data", "ls"], ["job", "ls"], ["wallet", "balance"], ["stop"],
        ["chain", "validators"], ["data", "get", "x"], ["chain", "params"], ["validator", "register"],
        ["validator", "show"], ["validator", "propose-baseline", "bundled"], ["validator", "approve", "00"],
    ],
)  # fmt: skip
def test_without_a_daemon_the_code_is_3_and_the_fix_is_named(
    home: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--home", str(home)]) == 3
    printed = capsys.readouterr()
    assert printed.err.startswith("error: no daemon is running for the home ")
    assert "Traceback" not in printed.err


def test_a_bond_without_sponsoring_is_a_mistake(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["invite", "--bond", "2", "--home", str(home)]) == 2
    assert "--sponsor" in capsys.readouterr().err


def test_a_socket_that_nobody_serves_is_a_daemon_down(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(Home(home).api_socket))
        assert run(["status", "--home", str(home)]) == 3


def test_a_daemon_that_dies_in_the_middle_is_a_daemon_down(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(Home(home).api_socket))
        server.listen()

        def answer_half() -> None:
            asked = b""
            while not asked:  # the client knocks before it asks
                connection, _ = server.accept()
                with connection:
                    asked = connection.recv(4096)
                    if asked:
                        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")

        thread = threading.Thread(target=answer_half)
        thread.start()
        assert run(["status", "--home", str(home)]) == 3
        thread.join()
    assert "closed the connection" in capsys.readouterr().err


def test_usage_errors_are_2() -> None:
    assert run(["no-such-command"]) == 2
    assert run(["train"]) == 2
    assert run(["demo", "--nodes", "1"]) == 2


def test_init_prints_who_it_is_and_leaves_the_users_config_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    before = (home / "config.toml").read_text()
    assert run(["init", "--home", str(home), "--json"]) == 0
    identity = json.loads(capsys.readouterr().out)
    assert identity["peer_id"].startswith("12D3KooW")
    assert identity["account"].startswith("pml1")
    assert run(["init", "--home", str(home), "--port", "1"]) == 7
    assert (home / "config.toml").read_text() == before


def test_an_unknown_key_in_config_toml_stops_the_daemon_with_7(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "config.toml").write_text("prot = 1\n")
    assert run(["daemon", "--home", str(home)]) == 7
    assert "did you mean 'port'?" in capsys.readouterr().err


def test_founding_and_joining_a_network(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, out = tmp_path / "other", tmp_path / "genesis.json"
    assert run(["init", "--home", str(other), "--name", "you"]) == 0
    found = ["genesis", "create", "--out", str(out), "--preset", "demo", "--name", "net"]
    assert run([*found, "--rating", f"{other}=5", str(home), str(other)]) == 0
    genesis = Genesis.from_json(out.read_text())
    assert {(item.name, item.rating) for item in genesis.validators} == {("me", 10), ("you", 5)}
    assert {amount for _, amount in genesis.allocations} == {1000 * 10**8}
    capsys.readouterr()
    again = out.with_name("again.json")
    assert run([*found, "--out", str(again), str(home), str(other), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"file": str(again), "chain_id": Genesis.from_json(again.read_text()).chain_id.hex()}
    assert run(["init", "--home", str(home), "--genesis", str(out)]) == 0
    assert Genesis.from_json((home / "genesis.json").read_text()) == genesis
    capsys.readouterr()
    assert run(["genesis", "show", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["chain_id"] == genesis.chain_id.hex()
    assert run(["genesis", "show", str(out)]) == 0
    assert "in proportion to the rating" in capsys.readouterr().out
    assert run([*found, str(home)]) == 1, "an existing file is not replaced"


def test_a_network_of_the_richest(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "g.json")
    create = ["genesis", "create", "--out", out, "--preset", "report", "--allocation", "2500", str(home)]
    assert run(create) == 0
    capsys.readouterr()
    assert run(["genesis", "show", out]) == 0
    assert "the richest, in order; the validators own 2,500 tokens" in capsys.readouterr().out


def test_another_networks_genesis_is_refused(home: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        out = str(tmp_path / f"{name}.json")
        assert run(["genesis", "create", "--out", out, "--name", name, str(home)]) == 0
    assert run(["init", "--home", str(home), "--genesis", str(tmp_path / "one.json")]) == 0
    assert run(["init", "--home", str(home), "--genesis", str(tmp_path / "two.json")]) == 7


@pytest.mark.parametrize("content", [None, "", "{}", '{"format": 1}', "x" * 100])
def test_a_file_that_is_no_genesis_is_refused(
    home: Path, tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "g.json"
    if content is not None:
        path.write_text(content)
    assert run(["init", "--home", str(home), "--genesis", str(path)]) == 7
    assert "error:" in capsys.readouterr().err
    assert not (home / "genesis.json").exists()


def test_genesis_options_are_checked(home: Path, tmp_path: Path) -> None:
    create = ["genesis", "create", "--out", str(tmp_path / "g"), str(home)]
    assert run([*create, "--rating", "nonsense"]) == 2
    assert run([*create, "--rating", f"{tmp_path}/elsewhere=3"]) == 2
    assert run([*create, "--preset", "nope"]) == 2
    assert run(["genesis", "create", "--out", str(tmp_path / "g"), str(tmp_path / "no-home")]) == 7
    assert not (tmp_path / "g").exists()


def test_missing_files(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = str(tmp_path / "nothing")
    assert run(["seed", nothing, "--home", str(home)]) == 1
    assert run(["train", "--job", nothing, "--home", str(home)]) == 7
    assert run(["data", "get", f"{nothing}.torrent", "--home", str(home)]) == 1
    assert capsys.readouterr().err.count("error:") == 3


def test_wallets_are_made_listed_and_guarded(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("P2PML_PASSPHRASE", "secret")
    monkeypatch.setattr("p2pml.storage.keystore.SCRYPT_COST", 16)
    capsys.readouterr()
    assert run(["wallet", "new", "alice", "--home", str(home)]) == 0
    address = capsys.readouterr().out.strip()
    assert run(["wallet", "ls", "--home", str(home), "--json"]) == 0
    listed = {item["name"]: item["address"] for item in json.loads(capsys.readouterr().out)}
    assert listed["alice"] == address
    assert set(listed) == {"node", "alice"}
    assert run(["wallet", "new", "alice", "--home", str(home)]) == 1
    assert run(["wallet", "new", "../x", "--home", str(home)]) == 2
    monkeypatch.delenv("P2PML_PASSPHRASE")
    assert run(["wallet", "new", "bob", "--home", str(home)]) == 4


def test_no_color_and_a_pipe_print_no_escape_codes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["wallet", "ls", "--home", str(home)])
    run(["status", "--home", str(home)])
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err


def _leaves(command: Any, path: str = "") -> Iterator[tuple[str, set[str]]]:
    """Every command of the tree with its options."""
    for name, below in getattr(command, "commands", {}).items():
        yield from _leaves(below, f"{path} {name}".strip())
    if not hasattr(command, "commands"):
        yield path, {option for parameter in command.params for option in parameter.opts}


def test_every_command_but_the_daemon_has_json() -> None:
    leaves = dict(_leaves(typer.main.get_command(app)))
    assert len(leaves) > 50
    assert [path for path, options in leaves.items() if "--json" not in options] == ["daemon"]


def test_an_unexpected_error_is_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_path: Path) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("p2pml.node.lock.holder", broken)
    assert run(["stop", "--home", str(home)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: unexpected: RuntimeError: boom\n  fix: ")
    assert "Traceback" not in err


def test_of_an_unexpected_group_each_error_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_path: Path) -> None:
        inner = ExceptionGroup("a nursery", [OSError(98, "in use"), ValueError("boom"), ValueError("boom")])
        raise ExceptionGroup("another", [inner])

    monkeypatch.setattr("p2pml.node.lock.holder", broken)
    assert run(["stop", "--home", str(home)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: unexpected: OSError: [Errno 98] in use; ValueError: boom\n  fix: ")
