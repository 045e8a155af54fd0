"""The data sets of ratings that a node keeps: fetched once, mixed once, and never used when damaged."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trio

from chain.entries import Governance
from chain.params import DEMO
from chain.quality import BUNDLED, Baseline
from chain.rating.entries import Window
from p2pml.errors import UserError
from p2pml.node import rating_baseline
from p2pml.node.events import Events
from p2pml.node.quiet_thread import QuietThread
from p2pml.node.rating_baseline import BaselineKeeper, keep, read_kept, wanted_baselines
from p2pml.training.dataset import digits_path
from tests.node.rating_nodes import SMALL

OTHER = b"\x07" * 20


class Source:
    """Where torrents come from: the digits again, once somebody has them."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.there = True

    async def fetch(self, infohash: bytes) -> tuple[bytes, Path]:
        await trio.lowlevel.checkpoint()
        self.asked.append(infohash)
        if not self.there:
            raise UserError("nobody has it", "wait")
        return infohash, digits_path()


def state_with(now: bytes, later: bytes | None = None, epoch: int = 5, window: Window | None = None) -> Any:
    """What the keeper asks of a state; in epoch 4 the digits held."""
    adopted = [(3, Baseline(now, 1, 2))] + ([(epoch + 2, Baseline(later, 1, 2))] if later else [])
    holding = DEMO.baseline if now == BUNDLED else Baseline(now, 1, 2)
    return SimpleNamespace(
        epoch=epoch,
        window=lambda: window or Window(),
        baseline=lambda epoch: DEMO.baseline if epoch < 5 else holding,
        governance=lambda: Governance(tuple(adopted), ()),
    )


def keeper_in(folder: Path, source: Source, events: Events) -> BaselineKeeper:
    return BaselineKeeper(folder, source.fetch, QuietThread(0), events)


@pytest.mark.slow
async def test_a_change_that_is_adopted_is_fetched_before_it_holds(tmp_path: Path) -> None:
    source, events = Source(), Events()
    keeper = keeper_in(tmp_path, source, events)
    await keeper.look(state_with(BUNDLED, OTHER))
    assert source.asked == [OTHER]
    first, second = keeper.get(BUNDLED), keeper.get(OTHER)
    assert first is not None
    assert second is not None
    assert np.array_equal(first.train.x, second.train.x)
    await keeper.look(state_with(OTHER))  # the change holds: the digits are forgotten
    assert keeper.get(BUNDLED) is None
    assert not keeper.folder_of(BUNDLED).exists()
    again = keeper_in(tmp_path, source, events)  # after a restart
    await again.look(state_with(OTHER))
    assert source.asked == [OTHER]
    found = again.get(OTHER)
    assert found is not None
    assert np.array_equal(found.train.x, second.train.x)


async def test_what_nobody_has_is_told_once_and_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rating_baseline, "load_baseline", lambda path: SMALL)
    source, events = Source(), Events()
    source.there = False
    keeper = keeper_in(tmp_path, source, events)
    await keeper.look(state_with(OTHER))
    await keeper.look(state_with(OTHER))
    assert source.asked == [OTHER]  # not at every slot
    assert "nobody has it" in keeper.problems[OTHER]
    monkeypatch.setattr(keeper, "_retry_at", {})
    await keeper.look(state_with(OTHER))
    assert source.asked == [OTHER, OTHER]
    assert [event.data["ready"] for event in events.since(0)] == [False]
    source.there = True
    monkeypatch.setattr(keeper, "_retry_at", {})
    await keeper.look(state_with(OTHER))
    assert keeper.problems == {}
    assert [event.data["ready"] for event in events.since(0)] == [False, True]


@pytest.mark.parametrize("name", ["x.npy", "y.npy", "test/x.npy", "net.json"])
def test_samples_that_the_disk_has_spoiled_are_not_used(tmp_path: Path, name: str) -> None:
    """Who trained on them would claim what is false, and lose its bond."""
    folder = tmp_path / "ab"
    keep(folder, SMALL)
    found = read_kept(folder)
    assert found is not None
    assert found.net == SMALL.net
    assert np.array_equal(found.test.x, SMALL.test.x)
    data = bytearray((folder / name).read_bytes())
    data[-2] ^= 1
    (folder / name).write_bytes(data)
    assert read_kept(folder) is None


def test_what_is_wanted_now_and_later() -> None:
    assert wanted_baselines(state_with(BUNDLED)) == (BUNDLED,)
    assert wanted_baselines(state_with(BUNDLED, OTHER)) == (BUNDLED, OTHER)
    assert wanted_baselines(state_with(OTHER, OTHER)) == (OTHER,)
    under_way = Window(start=64, slots=5, epoch=4, over=False)  # its audits need what held when it began
    assert wanted_baselines(state_with(OTHER, window=under_way)) == (BUNDLED, OTHER)
