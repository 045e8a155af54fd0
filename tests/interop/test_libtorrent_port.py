"""libtorrent and real daemons exchange 256 MB by plain TCP, in both directions, v1 and hybrid."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pml.cli.app import run
from p2pml.cli.data_view import describe
from p2pml.cli.local_network import LocalNetwork, LocalNode, free_ports
from tests.interop.clients import add, libtorrent_up, same_files, wait_for

pytestmark = pytest.mark.slow

MB = 1_000_000
SIZES = {"a.bin": 100 * MB, "b/c.bin": 90 * MB + 7, "b/d.bin": 66 * MB - 7, "empty": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given") / "set"
    for name, size in SIZES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.urandom(size))
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    with LocalNetwork(tmp_path_factory.mktemp("net"), 2, workers=False) as network:
        for node, port in zip(network.nodes, free_ports(2), strict=True):
            file = node.home.config_file
            text = file.read_text()
            assert "bittorrent_port = 0" in text
            file.write_text(text.replace("bittorrent_port = 0", f"bittorrent_port = {port}"))
        network.start()
        network.wait(
            "the nodes are up",
            lambda: all(node.get("/status")["peers"] for node in network.nodes) or None,
            90,
        )
        yield network


def bittorrent_port(node: LocalNode) -> int:
    lines = node.home.config_file.read_text().splitlines()
    return next(int(line.split("=")[1]) for line in lines if line.startswith("bittorrent_port"))


def p2pml(node: LocalNode, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert run([*arguments, "--home", str(node.home.root), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("form", ["--v1", "--hybrid"])
def test_256_mb_go_to_libtorrent_and_come_back_from_it(
    network: LocalNetwork,
    folder: Path,
    form: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seeder, leecher = network.nodes
    seeded = p2pml(seeder, capsys, "seed", str(folder), form)
    raw = Path(seeded["torrent_file"]).read_bytes()
    torrent = tmp_path / "set.torrent"
    torrent.write_bytes(raw)
    with libtorrent_up() as theirs:
        handle = add(theirs, raw, tmp_path)
        handle.connect_peer(("127.0.0.1", bittorrent_port(seeder)))
        seen: list[dict] = []

        def done() -> bool:
            time.sleep(0.3)  # each question costs the daemon some of its time
            answer = seeder.get(f"/datasets/{seeded['infohash']}")
            if answer["links"]:
                seen.append(answer)
            return bool(handle.status().is_seeding)

        wait_for(done, "libtorrent has everything")
        wait_for(lambda: same_files(folder, tmp_path / "set"), "its files are the same")
        link = seen[-1]["links"][0]
        assert link["peer"].startswith("tcp:127.0.0.1:")
        assert link["client"].startswith("libtorrent 2.")
        shown = describe(seen[-1])
        assert link["peer"] in shown
        assert link["client"] in shown
        p2pml(seeder, capsys, "data", "rm", seeded["infohash"])

        place = f"127.0.0.1:{theirs.listen_port()}"
        got = p2pml(leecher, capsys, "data", "get", str(torrent), "--peer", place)
        assert got["complete"]
        assert {peer.removesuffix(f":{theirs.listen_port()}") for peer in got["sources"]} == {"tcp:127.0.0.1"}
        assert sum(got["sources"].values()) >= sum(SIZES.values())
        assert same_files(folder, Path(got["folder"]))
    p2pml(leecher, capsys, "data", "rm", got["infohash"], "--with-data")
    shutil.rmtree(tmp_path / "set")
