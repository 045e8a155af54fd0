"""What users get wrong: one line for the cause, one for the fix, the right exit code, never a traceback."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from p2pml.storage.chain_db import ChainDb

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OK, FAILURE, USAGE, DOWN, AUTH, NETWORK, JOB_FAILED, BAD_CONFIG = range(8)
NO_DATA, NO_TOKENS = 13, 14
SPEC = """\
name: x
model: {{builder: softmax}}
data: {{train: {data}}}
rounds: {{max: 1}}
{more}
"""


@pytest.fixture(scope="module")
def cluster(start_cluster: Callable[..., Any]) -> Iterator[Any]:
    """One node that can train."""
    with start_cluster(1) as cluster:
        cluster.wait_for_workers(cluster.nodes[0])
        yield cluster


@pytest.fixture(scope="module")
def node(cluster: Any) -> Any:
    return cluster.nodes[0]


@pytest.fixture(scope="module")
def new_home(cluster: Any, p2pml: Callable[..., Any]) -> Path:
    """A home of the same network, whose daemon does not run."""
    home: Path = cluster.root / "new-home"
    genesis = str(cluster.nodes[0].home.genesis_file)
    ports = ("--listen", "127.0.0.1", "--port", "0", "--api-port", "0")
    made = p2pml("init", *ports, "--genesis", genesis, home=home)
    assert made.code == 0, made.err
    return home


@pytest.fixture
def refused(p2pml: Callable[..., Any]) -> Callable[..., tuple[str, str]]:
    """Runs a command that must fail with a code; returns its two lines."""

    def run(code: int, *arguments: str, home: Path) -> tuple[str, str]:
        done = p2pml(*arguments, home=home)
        assert done.code == code, done.err
        lines = done.err.splitlines()
        assert lines[-2].startswith("error: "), done.err
        assert lines[-1].startswith("  fix: "), done.err
        assert lines[-1] != "  fix: "
        return lines[-2].removeprefix("error: "), lines[-1].removeprefix("  fix: ")

    return run


Refused = Callable[..., tuple[str, str]]


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "cause", "fix"),
    [
        (SPEC.format(data="a.tar", more="peers: {minn: 1}"), ":5: unknown key 'peers.minn'", "'min'"),
        (
            SPEC.format(data="a.tar", more="agregate: {rule: mean}"),
            ":5: unknown key 'agregate'",
            "'aggregate'",
        ),
        (SPEC.format(data="a.tar", more="aggregate: {rule: krum}"), "krum", "median"),
        (SPEC.format(data="a.tar", more="reward: {budget: -1}"), "budget", ""),
        ("name: [x\n", "not valid YAML", ""),
        ("", "", ""),
    ],
    ids=["unknown-key", "unknown-section", "unknown-rule", "bad-value", "no-yaml", "empty"],
)
def test_a_wrong_spec(node: Any, tmp_path: Path, refused: Refused, text: str, cause: str, fix: str) -> None:
    path = write(tmp_path / "job.yaml", text)
    told = refused(BAD_CONFIG, "train", "--job", path, home=node.home.root)
    assert path in told[0]
    assert cause in told[0]
    assert fix in " ".join(told)
    assert node.get("/jobs") == [], "nothing was begun"


def test_a_missing_spec(node: Any, tmp_path: Path, refused: Refused) -> None:
    cause, _ = refused(BAD_CONFIG, "train", "--job", str(tmp_path / "none.yaml"), home=node.home.root)
    assert f"{tmp_path}/none.yaml cannot be read: No such file" in cause


@pytest.mark.parametrize(
    ("data", "code", "cause"),
    [
        ("./none.tar", NO_DATA, "there is no file {folder}/none.tar"),
        ("none.tar", NO_DATA, "there is no file {folder}/none.tar, and nobody to ask for 'none.tar'"),
        ("broken.npz", BAD_CONFIG, "the data broken.npz cannot be used"),
    ],
    ids=["path", "name", "broken"],
)
def test_data_that_is_not_there(
    node: Any, tmp_path: Path, refused: Refused, data: str, code: int, cause: str
) -> None:
    """Told at once, although no peer is there to train."""
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 this was an npz once")
    path = write(tmp_path / "job.yaml", SPEC.format(data=data, more=""))
    before = node.get("/supply")["escrow"]
    told, _ = refused(code, "train", "--job", path, home=node.home.root)
    assert cause.format(folder=tmp_path) in told
    assert node.get("/supply")["escrow"] == before, "no tokens were locked"


@pytest.mark.parametrize(
    ("arguments", "code", "cause"),
    [
        (("seed", "{folder}/none.tar"), FAILURE, "there is no file or folder {folder}/none.tar"),
        (("seed", "{folder}/empty"), FAILURE, "{folder}/empty holds no data"),
        (("data", "get", "{folder}/none.torrent"), FAILURE, "{folder}/none.torrent cannot be read"),
        (("data", "get", "{folder}/corrupt.torrent"), FAILURE, "not a usable .torrent file"),
        (("data", "get", "x", "--files", "one"), USAGE, "'one'"),
        (("data", "info", "nothing"), FAILURE, "nothing"),
    ],
    ids=["no-file", "empty-folder", "no-torrent", "corrupt-torrent", "files", "unknown"],
)
def test_wrong_data_commands(
    node: Any, tmp_path: Path, refused: Refused, arguments: tuple[str, ...], code: int, cause: str
) -> None:
    (tmp_path / "empty").mkdir()
    whole = b"d4:infod6:lengthi9e4:name1:x12:piece lengthi16384e6:pieces20:" + bytes(20) + b"ee"
    (tmp_path / "corrupt.torrent").write_bytes(whole[:-30])
    given = [argument.format(folder=tmp_path) for argument in arguments]
    assert cause.format(folder=tmp_path) in refused(code, *given, home=node.home.root)[0]


def test_wrong_payments(node: Any, refused: Refused, p2pml: Callable[..., Any]) -> None:
    home, own = node.home.root, node.address
    other = p2pml("wallet", "new", "other", home=home).out.strip()
    damaged = other[:20] + ("a" if other[20] != "a" else "b") + other[21:]
    for address in ("pml1short", damaged):
        cause, _ = refused(USAGE, "wallet", "send", address, "1", home=home)
        assert f"'{address}' is not an address" in cause
    assert "'nobody'" in refused(FAILURE, "wallet", "send", "nobody", "1", home=home)[0]
    cause, fix = refused(FAILURE, "wallet", "send", other, "1000000", home=home)
    assert "1,000,000 and the fee of 0.1 are needed" in cause
    assert "--from" in fix
    assert "has 0 tokens" in refused(FAILURE, "wallet", "send", own, "1", "--from", "other", home=home)[0]
    for amount in ("0", "ten", "0.000000001"):
        assert f"'{amount}'" in refused(USAGE, "wallet", "send", other, amount, home=home)[0]
    spec = write(home.parent / "rich.yaml", SPEC.format(data="a.tar", more="reward: {budget: 1000000}"))
    cause, fix = refused(NO_TOKENS, "train", "--job", spec, home=home)
    assert "the job needs 1,000,001.1 tokens with fees" in cause
    assert "reward.budget" in fix


@pytest.mark.parametrize(
    "command",
    [("status",), ("chain", "head"), ("data", "ls"), ("job", "ls"), ("wallet", "balance"), ("stop",),
     ("train", "--job", "{spec}"), ("data", "get", "x"), ("seed", "{spec}")],
    ids=" ".join,
)  # fmt: skip
def test_a_daemon_that_is_down(
    new_home: Path, tmp_path: Path, refused: Refused, command: tuple[str, ...]
) -> None:
    spec = write(tmp_path / "job.yaml", SPEC.format(data="a.tar", more=""))
    given = [argument.format(spec=spec) for argument in command]
    cause, _ = refused(DOWN, *given, home=new_home)
    assert cause == f"no daemon is running for the home {new_home}"


def test_a_second_daemon_on_the_home(node: Any, refused: Refused) -> None:
    cause, fix = refused(FAILURE, "daemon", home=node.home.root)
    assert f"PID {node.process.pid} since 20" in cause
    assert f"p2pml stop --home {node.home.root}" in fix
    assert node.get("/status")["pid"] == node.process.pid


@pytest.mark.parametrize("option", ["--port", "--api-port"])
def test_a_port_in_use(new_home: Path, refused: Refused, option: str) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        cause, _ = refused(FAILURE, "daemon", option, str(port), home=new_home)
        assert str(port) in cause
        assert "in use" in cause


@pytest.mark.parametrize(
    ("break_home", "code", "cause"),
    [
        (lambda home: (home / "config.toml").write_text("prot = 1\n"), BAD_CONFIG, "unknown key 'prot'"),
        (lambda home: (home / "config.toml").write_text("port = [\n"), BAD_CONFIG, "not valid TOML"),
        (lambda home: (home / "genesis.json").unlink(), BAD_CONFIG, "belongs to no network yet"),
        (lambda home: (home / "genesis.json").write_text("{"), BAD_CONFIG, "genesis"),
        (lambda home: (home / "keys" / "node.key").write_bytes(b"short"), AUTH, "node.key"),
        (lambda home: _of_another_chain(home / "chain.sqlite"), BAD_CONFIG, "belongs to another chain"),
        (lambda home: (home / "VERSION").write_text("99\n"), BAD_CONFIG, "layout version '99'"),
    ],
    ids=["key", "toml", "no-genesis", "bad-genesis", "node-key", "other-chain", "version"],
)  # fmt: skip
def test_a_home_that_is_damaged(
    new_home: Path,
    tmp_path: Path,
    refused: Refused,
    break_home: Callable[[Path], object],
    code: int,
    cause: str,
) -> None:
    home = Path(shutil.copytree(new_home, tmp_path / "home"))
    break_home(home)
    assert cause in refused(code, "daemon", home=home)[0]


def _of_another_chain(path: Path) -> None:
    path.unlink(missing_ok=True)
    ChainDb(path, bytes(32)).close()
