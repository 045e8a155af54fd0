"""Files chosen by pattern and priority, between real hosts on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pml.errors import UserError
from tests.node.data_nodes import nodes_up, noise

pytestmark = pytest.mark.slow


def folder_of(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    for number, name in enumerate(["train/a.bin", "train/b.bin", "test/c.bin"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(noise(60_000, number))
    return folder


async def test_priorities_change_during_a_download_and_outlive_a_restart(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    async with nodes_up(tmp_path, 2) as (seeder, leecher):
        await seeder.data.seed(folder)
        await leecher.data.begin("set", choices=[("train/a.bin", 7)])
        info = await leecher.data.wait("set", timeout=20)
        assert {file.path: (file.priority, file.complete) for file in info.files} == {
            "test/c.bin": (0, False),
            "train/a.bin": (7, True),
            "train/b.bin": (0, False),
        }
        assert info.wanted < info.pieces
        await leecher.data.pause("set")
        await leecher.data.begin("set", choices=[("*b.bin", 2), ("*c.bin", 3), ("test/*", 0)])
        assert not leecher.data.info("set").complete
        with pytest.raises(UserError, match="no file that 'nothing' fits"):
            await leecher.data.begin("set", choices=[("nothing", 4)])
    async with nodes_up(tmp_path, 2) as (seeder, leecher):
        info = leecher.data.info("set")
        assert {file.path: file.priority for file in info.files} == {
            "test/c.bin": 0,
            "train/a.bin": 7,
            "train/b.bin": 2,
        }
        await leecher.data.resume("set")
        info = await leecher.data.wait("set", timeout=20)
        assert {file.path for file in info.files if file.complete} == {"train/a.bin", "train/b.bin"}
        assert not list((leecher.home.root / "pieces").rglob("c.bin"))
        info = await leecher.data.fetch("set", timeout=20)
        assert all(file.complete for file in info.files)
        assert {file.priority for file in info.files} == {2, 4, 7}
