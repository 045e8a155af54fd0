"""Rating windows of made-up work: leaves that nobody trained, which the chain cannot tell from real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any

from chain import merkle
from chain.baseline.trace import Leaf
from chain.crypto import H, Keypair
from chain.draft import Draft
from chain.errors import InvalidRating
from chain.forkchoice import Chain
from chain.params import DEMO
from chain.rating.auditing import parts
from chain.rating.draws import evaluated
from chain.rating.entries import Window
from chain.rating.items import (
    MARK_BYTES,
    AuditCommit,
    AuditReveal,
    Commit,
    Evaluation,
    ProvenLeaf,
    RatingItem,
    Report,
    Reveal,
    reports_digest,
    sign,
)
from chain.rating.phases import NET
from chain.rating.schedule import Schedule, next_regular, schedule, schedule_of
from chain.state import State
from chain.transition import apply_rating, open_slot
from chain.types import Block
from tests.chain.conftest import World

BRIEF = replace(
    DEMO, slots_per_epoch=8, window_slots=2, window_every_epochs=3, grace_slots=2, reveal_slots=2,
    audit_commit_slots=2, audit_reveal_slots=1, challenge_slots=2,
)  # fmt: skip
"""Short windows: from slot 24 on, announced in 16, over in 35; the next is announced in 40."""
GOOD = ((48, 2), (1, 49))
"""A confusion matrix of quality 0.97."""
BAD = ((25, 25), (25, 25))


def proven(leaves: list[Leaf], index: int) -> ProvenLeaf:
    """A leaf of a tree with its path."""
    leaf = leaves[index]
    path = merkle.path([each.encode() for each in leaves], index)
    return ProvenLeaf(index, leaf.episode, leaf.segment, leaf.digest, path)


class Work:
    """What an account pretends to have trained in a window: whole episodes, and a part of one more.

    Args:
        keys: the account's.
        segments: of the trace.
    """

    def __init__(self, world: World, keys: Keypair, window: Window, segments: int = 20, joules: int = 0):
        self.keys, self.window, self.joules = keys, window, joules
        self.chain_id = world.genesis.chain_id
        self.leaves = [
            Leaf(
                number // NET.segments,
                number % NET.segments,
                H("made-up", keys.public, number.to_bytes(8, "big")),
            )
            for number in range(segments)
        ]
        self.last = [leaf for leaf in self.leaves if leaf.segment == NET.segments - 1]

    @cached_property
    def commit(self) -> Commit:
        roots = [merkle.root([leaf.encode() for leaf in tree]) for tree in (self.leaves, self.last)]
        return self.signed(
            Commit(
                self.keys.public, self.window.start, self.window.mix, len(self.leaves), roots[0],
                len(self.last), roots[1], self.joules,
            )
        )  # fmt: skip

    def reveal(self, window: Window, confusion: tuple[tuple[int, ...], ...] = GOOD) -> Reveal:
        """What the window's draw asks for."""
        drawn = evaluated(window.draw, self.keys.public, len(self.last))
        shown = tuple(Evaluation(proven(self.last, index), confusion) for index in drawn)
        return self.signed(Reveal(self.keys.public, window.start, window.draw, shown))

    def signed(self, point: Any) -> Any:
        return sign(point, self.keys, self.chain_id)


def due(
    world: World, slot: int, state: State | None = None, known: Iterable[Work] | None = None
) -> list[RatingItem]:
    """What all validators owe a block of that slot if the window is to give everybody a rating.

    Args:
        known: what they have trained, if not the same each.
    """
    draft = open_slot(state or world.state, slot)
    window, borders = draft.window(), schedule_of(world.genesis.params, draft.window())
    if window.over or slot < borders.train_end:
        return []
    works = list(known or (Work(world, keys.keypair, window) for keys in world.validators))
    if slot < borders.commit_end:
        return [work.commit for work in works]
    if slot < borders.reveal_end:
        return [work.reveal(window) for work in works]
    sealed: list[RatingItem] = []
    for work in works if slot < borders.audit_reveal_end else ():
        public, salt, reports = work.keys.public, bytes(32), _reports(draft, window, work.keys.public)
        if slot >= borders.audit_commit_end:
            sealed.append(work.signed(AuditReveal(public, window.start, window.draw, salt, reports)))
        else:
            digest = reports_digest(public, salt, reports)
            sealed.append(work.signed(AuditCommit(public, window.start, window.draw, digest)))
    return sealed


def _reports(draft: Draft, window: Window, auditor: bytes) -> tuple[Report, ...]:
    """A mark for whatever the auditor was drawn to look at."""
    found = []
    for subject in draft.roll.accounts:
        part = parts(draft, window, subject).get(auditor)
        if part is not None:
            found.append(Report(subject, b"\x01" * (MARK_BYTES * len(part))))
    return tuple(found)


class Windows:
    """A world that lives through rating windows.

    Args:
        world: at any slot; blocks come when a method asks for them.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.work: dict[bytes, Work] = {}

    @property
    def window(self) -> Window:
        return self.world.state.window()

    @property
    def borders(self) -> Schedule:
        return schedule_of(self.world.genesis.params, self.window)

    def go(self, slot: int, ratings: Iterable[RatingItem] = (), chain: Chain | None = None) -> Block:
        """Everybody votes for the head; then a block comes in `slot` with these items."""
        world, ratings = self.world, tuple(ratings)
        state = (chain or world.chain).state()
        table = state.table_at(state.slot)
        voters = [i for i, keys in enumerate(world.validators) if state.slot and table.voice(keys.public)]
        world.cast(*(world.vote(i, chain=chain) for i in voters), chain=chain)
        block = world.build(slot=slot, chain=chain, ratings=ratings)
        assert block.body.ratings == ratings
        world.give(block, chain)
        return block

    def owed(self, slot: int) -> list[RatingItem]:
        """What those who have committed owe a block of that slot on the head; all else is left out."""
        state = self.world.state
        draft, found = open_slot(state, slot), []
        for item in due(self.world, slot, known=self.work.values()):
            with suppress(InvalidRating):
                apply_rating(draft, item, slot)
                found.append(item)
        return found

    def announce(self) -> Window:
        """To the announcement of the next regular window; the blocks right before it become final."""
        params = self.world.genesis.params
        start = next_regular(params, self.world.state.slot)
        assert start is not None
        slot = schedule(params, start, params.window_slots).announce
        for each in range(max(slot - 3, self.world.state.slot + 1), slot + 1):
            self.go(each)
        assert self.window.mix
        return self.window

    def commit(self, *who: int, segments: Callable[[int], int] = lambda who: 20) -> None:
        """These validators commit."""
        for i in who:
            keys = self.world.validators[i].keypair
            self.work[keys.public] = Work(self.world, keys, self.window, segments(i))
        self.go(self.borders.train_end, [self.work[self.world.validators[i].public].commit for i in who])

    def draw(self) -> Window:
        """To the draw."""
        self.go(self.borders.commit_end)
        return self.window

    def reveal(self, *who: int, confusion: tuple[tuple[int, ...], ...] = GOOD) -> None:
        """These validators show that they learned."""
        shown = [self.work[self.world.validators[i].public].reveal(self.window, confusion) for i in who]
        self.go(max(self.borders.commit_end, self.world.state.slot + 1), shown)

    def end(self) -> State:
        """To the end, with the spots drawn on the way."""
        if not self.window.over and not self.window.spot:
            self.go(self.borders.audit_reveal_end)
        self.go(self.borders.end)
        assert self.window.over
        return self.world.state

    def whole(self, *who: int, segments: Callable[[int], int] = lambda who: 20) -> State:
        """A window in which these validators do what they have to; nobody audits."""
        self.announce()
        self.commit(*who, segments=segments)
        self.draw()
        self.reveal(*who)
        return self.end()

    def rating(self, i: int) -> int:
        """What the last block says."""
        validator = self.world.state.validator(self.world.validators[i].public)
        assert validator is not None
        return validator.rating
