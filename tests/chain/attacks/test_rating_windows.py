"""Attacks on the schedule of rating windows: branches with a window each, censorship at its deadlines.

Attacks on claims and audits are in `test_audits`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chain.errors import InvalidRating
from chain.forkchoice import Chain
from chain.params import PRESETS
from chain.rating.items import Commit
from chain.transition import apply_rating, open_slot
from tests.chain.attacks.helpers import copy, meet
from tests.chain.attacks.test_censorship import SHARES, fails
from tests.chain.conftest import World
from tests.chain.rating_window import BRIEF, Windows, due

PHASES = ("grace_slots", "reveal_slots", "audit_commit_slots", "audit_reveal_slots", "challenge_slots")


def side(world: World, chain: Chain, slots: range, voters: range, without: int) -> dict[int, list[Any]]:
    """A branch of its own, whose proposers take rating items of everybody but one; what was owed, by slot."""
    left_out = world.validators[without].public
    owed = {}
    for slot in slots:
        world.cast(*(world.vote(voter, chain=chain) for voter in voters), chain=chain)
        owed[slot] = due(world, slot, chain.state())
        taken = [item for item in owed[slot] if item.signer != left_out]
        world.give(world.build(slot=slot, chain=chain, ratings=taken), chain)
    return owed


def rated(world: World, chain: Chain) -> list[bool]:
    """Who has a rating from a window."""
    return [chain.state().validator(keys.public).rating > 10 for keys in world.validators]


def test_reorg_across_an_epoch_and_a_rating_window() -> None:
    """Both branches had the window, with challenges, commitments and ratings of their own; of the one that
    loses nothing is left, and what was signed for it is worth nothing on the other.
    """
    windows = Windows(World(ratings=(10, 10, 10, 10), params=BRIEF))
    world = windows.world
    for slot in range(8, 13):
        windows.go(slot)
    left, right = copy(world), copy(world)
    on_left = side(world, left, range(13, 40), range(1), without=3)
    side(world, right, range(13, 40), range(1, 4), without=0)
    assert left.state().window().over
    assert left.state().epoch > world.state.epoch + 2
    assert left.state().window().mix != right.state().window().mix, "more was final on the right"
    assert rated(world, left) == [True, True, True, False]
    assert rated(world, right) == [False, True, True, True]
    lost = left.state().root()
    meet(world, left, right)
    assert left.head == right.head
    assert left.state().root() == right.state().root() != lost
    assert rated(world, left) == [False, True, True, True]
    fresh = Chain(world.genesis)
    for block in reversed(list(right.ancestors(right.head.id))):
        world.give(block, fresh)
    assert fresh.state().root() == right.state().root()
    [commit] = [item for item in on_left[26] if item.signer == world.validators[0].public]
    assert isinstance(commit, Commit)
    on_right = next(block for block in right.ancestors(right.head.id) if block.height == 5 + 13)
    draft = open_slot(right.state(on_right.block_id), 27)
    with pytest.raises(InvalidRating, match="another draw"):
        apply_rating(draft, commit, 27)


@pytest.mark.parametrize("share", SHARES)
def test_censorship_at_the_deadlines_of_rating_windows_by_the_presets(share: int) -> None:
    """Less than one item in 10^8 is kept out of a phase where strangers meet; in the demo less than one in
    a hundred, as its phases have four slots.
    """
    for name in ("main", "lab"):
        for phase in PHASES:
            assert fails(share, getattr(PRESETS[name], phase)) < 1e-8
    for phase in PHASES:
        assert fails(share, getattr(PRESETS["demo"], phase)) < 1e-2


def test_censorship_at_the_deadline_of_commitments() -> None:
    """A proposer with 30 % leaves out whom it does not want. One slot of the grace that is not its own is
    enough for all others, and only where all four are its own nobody else commits.
    """
    kept_out, waited = 0, 0
    for seed in range(12):
        world = World((30, 35, 35), users=seed + 1, params=replace(BRIEF, grace_slots=4))
        windows = Windows(world)
        windows.announce()
        censor, victim = world.validators[0].public, world.validators[1].public
        start = windows.borders.train_end
        mine = [world.drawn(slot).public == censor for slot in range(start, start + 4)]
        for slot in range(start, start + 4):
            drawn = world.drawn(slot).public
            owed = [item for item in due(world, slot) if drawn != censor or item.signer != victim]
            world.give(world.build(slot=slot, ratings=owed))
        committed = world.state.claim(victim, windows.window.start) is not None
        assert committed is not all(mine)
        kept_out += all(mine)
        waited += mine[0]
    assert waited, "the coalition did what it could"
    assert kept_out == 0
