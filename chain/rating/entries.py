"""What the state remembers of rating windows, beside the validators' entries."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

from chain import fields
from chain.codec import pack
from chain.rating.items import Commit, Point, Report

WINDOW_KEY = b"t"
MIXES_KEY = b"m"


def claim_key(public: bytes) -> bytes:
    """Of an account's claim in its latest window."""
    return b"c" + public


def duty_key(public: bytes) -> bytes:
    """Of an auditor's work in its latest window."""
    return b"q" + public


def standing_key(public: bytes) -> bytes:
    """Of what the windows gave an account."""
    return b"s" + public


class _Encoded:
    """An entry whose canonical bytes are its fields in order."""

    @cached_property
    def encoded(self) -> bytes:
        return pack(fields.to_item(self))


@dataclass(frozen=True)
class Window(_Encoded):
    """The latest window, planned, under way or over.

    Args:
        start: its first slot, and its name.
        slots: for which it lasts.
        epoch: whose baseline holds.
        mix: 32 bytes that the challenges follow from; empty until they are announced.
        draw: 32 bytes that draw episodes, test samples and auditors; empty until commitments are closed.
        spot: 32 bytes that draw whose marks are looked at again; empty until audits are revealed.
        over: whether it was closed, its ratings given or the window void.
        claims: so many accounts have committed.
        funded: height of the block that closed a window last: the blocks after it pay this one's auditors.
    """

    start: int = 0
    slots: int = 0
    epoch: int = 0
    mix: bytes = b""
    draw: bytes = b""
    spot: bytes = b""
    over: bool = True
    claims: int = 0
    funded: int = 0

    def drawn_for(self, point: Point) -> bytes:
        """What an item has to name as `drawn`; empty as long as there is no such draw."""
        return self.mix if isinstance(point, Commit) else self.draw


@dataclass(frozen=True)
class Mixes(_Encoded):
    """The randomness after recent blocks, (slot, 32 bytes), ascending, since the final checkpoint's block."""

    after: tuple[tuple[int, bytes], ...] = ()

    def at(self, slot: int) -> bytes | None:
        """What it was after the last block up to a slot; None below what is kept."""
        place = self._place(slot)
        return self.after[place - 1][1] if place else None

    def with_block(self, slot: int, mix: bytes, final_slot: int, oldest: int) -> Mixes:
        """After one block more, without what is older than the final checkpoint, or than `oldest`."""
        grown = Mixes((*self.after, (slot, mix)))
        return Mixes(grown.after[max(grown._place(final_slot) - 1, grown._place(oldest - 1), 0) :])

    def _place(self, slot: int) -> int:
        """How many of the blocks came up to a slot."""
        return bisect_right(self.after, slot, key=lambda entry: entry[0])


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation as revealed: episode, its last leaf's digest, counts [true class][predicted class]."""

    episode: int
    digest: bytes
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class OpenChallenge:
    """A challenge that waits for its answer, until the block after `last_slot`."""

    challenger: bytes
    positions: tuple[int, ...]
    last_slot: int


@dataclass(frozen=True)
class Claim(_Encoded):
    """What an account committed to in the window, and what has become of it.

    Args:
        window, segments, trace_root, episodes, episodes_root, joules: as committed.
        evaluations: as revealed; empty before.
        disproved: an accusation held, so that the window counts 0.
        challenges: not answered yet.
        challengers: who has challenged: each auditor may once.
    """

    window: int
    segments: int
    trace_root: bytes
    episodes: int
    episodes_root: bytes
    joules: int
    evaluations: tuple[Evaluated, ...] = ()
    disproved: bool = False
    challenges: tuple[OpenChallenge, ...] = ()
    challengers: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Duty(_Encoded):
    """An auditor's work in the window: the digest that it committed to, the reports once they are opened."""

    window: int
    digest: bytes
    reports: tuple[Report, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a window gave an account.

    Args:
        window: its first slot.
        rating: 0 for a miss.
        segments: that were claimed.
        quality: combined, ppm.
        quality_factor, energy_factor: ppm.
        reason: `chain.rating.closing.Reason`: rated, or why not.
        duties, missed: audits that it was drawn for, and did not report.
    """

    window: int
    rating: int
    segments: int
    quality: int
    quality_factor: int
    energy_factor: int
    reason: int
    duties: int
    missed: int


@dataclass(frozen=True)
class Standing(_Encoded):
    """What the windows gave an account since it registered, at most the last three, the oldest first.

    Args:
        since: slot of the registration; windows that began earlier are not its.
    """

    since: int = 0
    outcomes: tuple[Outcome, ...] = ()
