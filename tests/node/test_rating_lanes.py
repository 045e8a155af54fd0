"""A rating window with real lanes: what they train in it is what an auditor's replay gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chain.baseline.draws import challenge
from chain.quality import BUNDLED
from p2pml.node.rating_training import Lanes
from p2pml.storage.rating_traces import RatingTraces
from tests.node.rating_nodes import PARAMS, SMALL, rated_net

pytestmark = pytest.mark.slow


async def test_real_lanes_train_from_the_announcement_to_the_window_s_end(tmp_path: Path) -> None:
    async with rated_net(tmp_path) as net:
        node = net.nodes[0]
        node.lanes = Lanes()
        await net.announce()
        window = net.chain.state().window()
        # Six seconds of the wall's clock before the end: time of the chain's stands still.
        await net.start(0)
        net.chain.pass_slot(window.start - 2)
        await net.until(lambda: node.told("rating.training"), 60)
        net.chain.pass_slot(window.start)
        await net.until(lambda: node.told("rating.committed"), 60)
        [committed] = node.told("rating.committed")
        kept = RatingTraces(node.home.ratings).read(window.start)
        assert kept is not None
        assert len(kept.leaves) == committed["segments"] >= SMALL.net.segments
        given = challenge(window.mix, window.start, node.account)
        assert kept.challenge == given
        assert kept.infohash == BUNDLED
        leaf = next(leaf for leaf in kept.leaves if leaf.segment == SMALL.net.segments - 1)
        digest, _ = SMALL.looks(given, leaf.episode, {leaf.segment: 0})[leaf.segment]
        assert digest == leaf.digest
        assert node.rests == [True, False]
        assert node.told("rating.training")


async def test_what_was_trained_is_claimed_where_the_wall_s_clock_says_that_the_time_is_up(
    tmp_path: Path,
) -> None:
    """The machine has slept meanwhile, or its clock was put right: trio's has most of an hour to go."""
    async with rated_net(tmp_path, params=replace(PARAMS, slot_ms=900_000)) as net:
        node = net.nodes[0]
        node.lanes = Lanes()
        await net.announce()
        window = net.chain.state().window()
        net.chain.pass_slot(window.start)
        await net.start(0)
        await net.until(lambda: (node.service.segments or 0) > SMALL.net.segments)
        net.chain.pass_slot(window.start + window.slots)
        await net.until(lambda: node.told("rating.committed"))
        assert node.told("rating.committed")[0]["segments"] > SMALL.net.segments
        assert node.rests == [True, False]
