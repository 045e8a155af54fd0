"""Data sets by the commands, between two real daemons."""

from __future__ import annotations

import filecmp
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from p2pml.cli.app import run
from p2pml.cli.local_network import LocalNetwork
from p2pml.client import NodeClient

pytestmark = pytest.mark.slow


class Home:
    """Runs commands on one node's home and reads what they print."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capsys = capsys

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        self._capsys.readouterr()
        result = run([*arguments, "--home", str(self.root)])
        printed = self._capsys.readouterr()
        assert result == code, printed.err
        return printed.out, printed.err

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code)[0])


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    with LocalNetwork(tmp_path_factory.mktemp("net"), 2, workers=False) as network:
        network.start()
        network.wait("no peer", lambda: network.nodes[1].get("/status")["peers"] or None, 60)
        yield network


@pytest.fixture
def homes(network: LocalNetwork, capsys: pytest.CaptureFixture[str]) -> list[Home]:
    return [Home(node.home.root, capsys) for node in network.nodes]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A tar of three members."""
    path = tmp_path / "things & more?.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(3):
            info = tarfile.TarInfo(f"part{number}.bin")
            data = random.Random(number).randbytes(50_000)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_data_set_from_the_cradle_to_the_grave(homes: list[Home], archive: Path) -> None:
    giver, taker = homes
    seeded = giver.json("seed", str(archive))
    name = seeded["name"]
    got = taker.json("data", "get", name)
    assert got["infohash_v2"] == seeded["infohash_v2"] != ""
    text, _ = taker.run("data", "info", name, "--members", "2")
    for words in ("#" * got["pieces"], "part1.bin", "and more", "100%", "copies with this node's"):
        assert words in text
    assert "part2.bin" not in text
    (tar,) = taker.json("data", "info", name)["tars"]
    assert [member["name"] for member in tar["members"]] == ["part0.bin", "part1.bin", "part2.bin"]

    copy = Path(got["files"][0]["location"])
    rotten = bytearray(copy.read_bytes())
    rotten[20_000] ^= 1
    stamp = copy.stat().st_mtime_ns
    copy.write_bytes(rotten)
    os.utime(copy, ns=(stamp, stamp))
    verified = taker.json("data", "verify", name)
    assert (verified["damaged"], verified["refetching"]) == ([1], True)
    taker.run("data", "get", name)
    assert copy.read_bytes() == archive.read_bytes()
    assert "10 of 10 pieces are good" in taker.run("data", "verify", name)[0]

    assert "paused" in taker.run("data", "pause", name)[0]
    assert "paused" in taker.run("data", "ls")[0]
    assert taker.json("data", "resume", name)["paused"] is False

    assert str(copy.parent) in taker.run("data", "rm", name)[0]
    assert copy.exists()
    taker.run("data", "get", name)
    assert "its files are deleted" in taker.run("data", "rm", name, "--with-data")[0]
    assert not copy.exists()
    assert "still in" in giver.run("data", "rm", name, "--with-data")[0]
    assert archive.exists()
    for action in ("rm", "verify", "pause", "resume", "info"):
        assert "`p2pml data ls` lists them" in giver.run("data", action, name, code=1)[1]


def test_ones_own_damaged_files_end_with_1_and_a_fix(homes: list[Home], archive: Path) -> None:
    giver, _ = homes
    name = giver.json("seed", str(archive), "--v1")["name"]
    data = archive.read_bytes()
    archive.write_bytes(b"oops" + data[4:])
    out, err = giver.run("data", "verify", name, code=1)
    assert "9 of 10 pieces are good" in out
    assert "put them right and verify again" in err
    archive.write_bytes(data)
    assert "10 of 10" in giver.run("data", "verify", name)[0]
    giver.run("data", "rm", name)


def test_ones_own_files_damaged_while_the_daemon_was_down_end_with_1_too(
    network: LocalNetwork, homes: list[Home], archive: Path
) -> None:
    node, giver = network.nodes[0], homes[0]
    name = giver.json("seed", str(archive))["name"]
    node.request_stop()
    assert node.wait_stopped(30) == 0
    data = archive.read_bytes()
    archive.write_bytes(data[:40_000] + b"oops" + data[40_004:])
    node.start()
    where = f"/datasets/{quote(name, safe='')}"
    network.wait("the damage is not noticed", lambda: node.get(where)["problem"] or None, 30)
    out, err = giver.run("data", "verify", name, code=1)
    assert "9 of 10 pieces are good" in out
    assert "damaged: 1 pieces (2)" in err
    assert "put them right and verify again" in err
    giver.run("data", "rm", name)
    network.wait("no peer", lambda: network.nodes[1].get("/status")["peers"] or None, 60)


def test_a_paused_fetch_says_how_to_go_on(homes: list[Home], archive: Path, tmp_path: Path) -> None:
    _, taker = homes
    torrent = tmp_path / "x.torrent"
    assert run(["data", "create", str(archive), "-o", str(torrent)]) == 0
    name = taker.json("data", "get", str(torrent), "--no-wait")["name"]
    taker.run("data", "pause", name)
    assert "data resume" in taker.run("data", "get", name, code=1)[1]
    taker.run("data", "rm", name, "--with-data")


def test_files_by_pattern_and_priority(homes: list[Home], tmp_path: Path) -> None:
    giver, taker = homes
    folder = tmp_path / "parts"
    for number, name in enumerate(["one/a=5", "one/b", "two/c"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(random.Random(number).randbytes(40_000))
    name = giver.json("seed", str(folder))["name"]
    copies = tmp_path / "copies"
    chosen = ("--file", "one/*=7", "--file", "one/b=0", "--to", str(copies))
    got = taker.json("data", "get", name, *chosen)
    assert {item["path"]: item["priority"] for item in got["files"]} == {"one/a=5": 7, "one/b": 0, "two/c": 0}
    assert [str(path.relative_to(copies)) for path in copies.rglob("*") if path.is_file()] == ["one/a=5"]
    text, _ = taker.run("data", "info", name)
    assert "PRIORITY" in text
    assert text.count("not wanted") == 3  # two files, and the sign on the map
    got = taker.json("data", "get", name, "--file", "one/a=5=1", "--file", "two/c")
    assert {item["path"]: item["priority"] for item in got["files"]} == {"one/a=5": 1, "one/b": 0, "two/c": 4}
    for wrong, said in (("x=8", "0 to 7"), ("=3", "0 to 7"), ("x=44", "0 to 7")):
        assert said in taker.run("data", "get", name, "--file", wrong, code=2)[1]
    assert "is not bytes of a file" in taker.run("data", "get", name, "--range", "one/b:5", code=2)[1]
    assert (
        "copies whole files"
        in taker.run("data", "get", name, "--range", "one/b:0-1", "--to", str(copies), code=2)[1]
    )
    got = taker.json("data", "get", name, "--range", "one/b:20000-30000=6")
    assert got["files"][1]["ranges"] == [{"begin": 20_000, "end": 30_000, "priority": 6}]
    assert got["complete"]
    assert "not wanted 20000-30000=6" in taker.run("data", "info", name)[0]
    location = Path(got["files"][1]["location"])
    assert location.read_bytes()[20_000:30_000] == (folder / "one/b").read_bytes()[20_000:30_000]
    assert "no file that 'zero' fits" in taker.run("data", "get", name, "--file", "zero", code=1)[1]
    assert "say the same" in taker.run("data", "get", name, "--file", "x", "--files", "0", code=2)[1]
    taker.run("data", "rm", name, "--with-data")
    giver.run("data", "rm", name)


def test_ctrl_c_in_mid_transfer_ends_the_waiting_and_the_next_get_goes_on(
    network: LocalNetwork, homes: list[Home], tmp_path: Path
) -> None:
    giver, taker = homes
    source, copies = tmp_path / "large.bin", tmp_path / "copies"
    source.write_bytes(random.Random(5).randbytes(160 << 20))
    giver.run("seed", str(source))
    command = [sys.executable, "-m", "p2pml", "data", "get", "large.bin", "--home", str(taker.root)]

    def arriving() -> bool | None:
        known = {item["name"]: item for item in network.nodes[1].get("/datasets")}
        return True if "large.bin" in known and known["large.bin"]["have"] else None

    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as get:
        assert get.stderr is not None
        assert "large.bin: " in get.stderr.readline()  # it waits
        network.wait("nothing arrives", arriving, 30)
        with NodeClient(
            network.nodes[0].home
        ) as source_node:  # a command would take longer than the transfer
            source_node.post("/datasets/large.bin/pause")  # the source stands still: this is mid-transfer
        get.send_signal(signal.SIGINT)
        err = get.stderr.read()
    assert get.returncode == 130, err
    assert "the node goes on fetching large.bin" in err
    assert "Traceback" not in err
    stopped = taker.json("data", "info", "large.bin")
    assert 0 < stopped["have"] < stopped["pieces"]
    assert (stopped["complete"], stopped["paused"], stopped["problem"]) == (False, False, "")
    giver.run("data", "resume", "large.bin")
    got = taker.json("data", "get", "large.bin", "--to", str(copies))
    assert got["complete"]
    assert filecmp.cmp(copies / "large.bin", source, shallow=False)
    assert sum(got["sources"].values()) == got["size"], "nothing that was here came twice"
    taker.run("data", "rm", "large.bin", "--with-data")
    giver.run("data", "rm", "large.bin")
