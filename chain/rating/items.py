"""Rating points: the signed items of a rating window, fee-free in the body's rating section.

Each is an array of its kind and its fields in the order of their definition, the signature last. They are
checked against the state in `chain.rating.steps` and `chain.rating.accusing`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import ClassVar, TypeVar

from chain import fields
from chain.codec import Item, flag, items, pack, uint, unpack
from chain.crypto import PUBLIC_BYTES, SIGNATURE_BYTES, H, Keypair, verify_once
from chain.errors import DecodeError

MAX_RATING_ITEM_BYTES = 16 * 1024
MARK_BYTES = 8
"""Of a mark: what an auditor shows of each segment it replayed, see `chain.rating.auditing.mark`."""

T = TypeVar("T", bound="Point")


@dataclass(frozen=True, slots=True)
class ProvenLeaf:
    """A leaf of one of a claim's two trees, with its place.

    Args:
        index: of the leaf in its tree.
        episode, segment, digest: as in `chain.baseline.trace.Leaf`.
        path: RFC 6962 audit path, 32 bytes each.
    """

    index: int
    episode: int
    segment: int
    digest: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A drawn episode on the drawn test samples.

    Args:
        leaf: the episode's last leaf, under the claim's `episodes_root`.
        confusion: counts [true class][predicted class].
    """

    leaf: ProvenLeaf
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What an auditor found of one subject.

    Args:
        subject: 32-byte account.
        marks: `MARK_BYTES` for each segment of the auditor's part, in the order of the draw; zeros where the
            subject served nothing or the replay gave something else than the leaf.
    """

    subject: bytes
    marks: bytes


@dataclass(frozen=True)
class Point:
    """What all have in common.

    Branches may draw differently, and what is right on one would be a lie on another: so each item names
    the draw that it was made for, and counts on no branch that has another (`Window.drawn_for`).

    Args:
        signer: 32-byte account.
        window: its first slot, which is its name.
        drawn: 32 bytes: the window's `mix` for a commit, its `draw` for everything later.
    """

    KIND: ClassVar[int]
    TAG: ClassVar[str]

    signer: bytes
    window: int
    drawn: bytes

    @property
    def signature(self) -> bytes:
        """64 bytes over `signing_bytes`; a field of every kind, its last."""
        raise NotImplementedError

    def signing_bytes(self, chain_id: bytes) -> bytes:
        """What the signer signs."""
        return H(self.TAG, chain_id, pack(self.to_item()[:-1]))

    def signed_for(self, chain_id: bytes) -> bool:
        """Whether the signature is the signer's, on this chain."""
        return verify_once(self.signer, self.signing_bytes(chain_id), self.signature)

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes."""
        return pack(self.to_item())

    @cached_property
    def id(self) -> bytes:
        """32 bytes; the signature is part of it."""
        return H("rating-item", self.encoded)

    def to_item(self) -> tuple[Item, ...]:
        return (self.KIND, *(fields.to_item(getattr(self, field.name)) for field in dataclasses.fields(self)))


@dataclass(frozen=True)
class Commit(Point):
    """What a node claims to have trained, before the deadline.

    Args:
        segments: leaves under `trace_root` (`chain.baseline.trace.Trace.root`).
        episodes: complete ones; leaves under `episodes_root`, the tree of their last leaves, ascending.
        joules: spent in the window; 0 when not told.
    """

    KIND = 1
    TAG = "rating-commit"

    segments: int
    trace_root: bytes
    episodes: int
    episodes_root: bytes
    joules: int
    signature: bytes = b""


@dataclass(frozen=True)
class Reveal(Point):
    """The drawn episodes of a claim on the drawn test samples, in the order of the draw."""

    KIND = 2
    TAG = "rating-reveal"

    evaluations: tuple[Evaluation, ...]
    signature: bytes = b""


@dataclass(frozen=True)
class AuditCommit(Point):
    """An auditor's reports, sealed: `digest` is `reports_digest` of them."""

    KIND = 3
    TAG = "audit-commit"

    digest: bytes
    signature: bytes = b""


@dataclass(frozen=True)
class AuditReveal(Point):
    """An auditor's reports, opened: one for each subject it was drawn for, ascending; `salt` is 32 bytes."""

    KIND = 4
    TAG = "audit-reveal"

    salt: bytes
    reports: tuple[Report, ...]
    signature: bytes = b""


@dataclass(frozen=True)
class Challenge(Point):
    """An auditor's word that a subject did not serve what lies at these positions of its part, ascending."""

    KIND = 5
    TAG = "rating-challenge"

    subject: bytes
    positions: tuple[int, ...]
    signature: bytes = b""


@dataclass(frozen=True)
class Answer(Point):
    """What an auditor challenged: the leaves at its positions and the one before each, ascending."""

    KIND = 6
    TAG = "rating-answer"

    challenger: bytes
    leaves: tuple[ProvenLeaf, ...]
    signature: bytes = b""


class Charge(IntEnum):
    """What an accusation says is wrong. All but `ORDER` are judged by a replay of at most an episode."""

    SEGMENT = 1
    """`leaves[0]`, under `trace_root`, is not what the replay gives."""
    EPISODE = 2
    """`leaves[0]`, under `episodes_root`, is not what the replay gives."""
    MATRIX = 3
    """The confusion matrix of the reveal's evaluation `place` is not what the replay gives; no leaves."""
    ORDER = 4
    """`leaves[0]` and `leaves[1]`, neighbours in one tree, break its order; or `leaves[0]` alone cannot stand
    where it does. `place` is 0 for the tree of `trace_root`, 1 for that of `episodes_root`."""
    MARK = 5
    """The accused is an auditor: its mark `place` about the subject `about` is not what the replay of
    `leaves[0]`, the leaf of that position under the subject's `trace_root`, gives."""


@dataclass(frozen=True)
class Accusation(Point):
    """A fraud proof. Who accuses falsely is punished as the accused would be.

    Args:
        accused: 32-byte account.
        about: 32-byte account of the subject for `Charge.MARK`, else empty.
    """

    KIND = 7
    TAG = "rating-accusation"

    charge: Charge
    accused: bytes
    leaves: tuple[ProvenLeaf, ...]
    place: int
    about: bytes
    signature: bytes = b""


RULING = 8


@dataclass(frozen=True)
class Ruling:
    """An accusation in a block, with what the proposer found when it replayed.

    The transition believes `guilty`: it needs no data set. Who holds the data set refuses the block where the
    replay says otherwise (`chain.rating.court`).
    """

    accusation: Accusation
    guilty: bool

    @property
    def loser(self) -> bytes:
        """32-byte account of who is punished."""
        return self.accusation.accused if self.guilty else self.accusation.signer

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes."""
        return pack(self.to_item())

    def to_item(self) -> tuple[Item, ...]:
        return (RULING, self.accusation.to_item(), self.guilty)


RatingItem = Commit | Reveal | AuditCommit | AuditReveal | Challenge | Answer | Ruling
"""What may stand in a block. An accusation waits in the pool by itself, and stands there as a ruling."""

KINDS: dict[int, type[Point]] = {
    kind.KIND: kind for kind in (Commit, Reveal, AuditCommit, AuditReveal, Challenge, Answer, Accusation)
}


def sign(point: T, keypair: Keypair, chain_id: bytes) -> T:
    """The same item with its signature; `point.signer` must be the key's account."""
    return replace(point, signature=keypair.sign(point.signing_bytes(chain_id)))  # type: ignore[call-arg]


def reports_digest(signer: bytes, salt: bytes, reports: tuple[Report, ...]) -> bytes:
    """32 bytes that bind an auditor to its reports and tell nothing of them."""
    return H("audit-reports", signer, salt, pack(tuple(fields.to_item(report) for report in reports)))


def decode_point(data: bytes) -> Point:
    """A signed item as it travels. Raises DecodeError."""
    return point_from_item(unpack(data, MAX_RATING_ITEM_BYTES))


def point_from_item(item: Item) -> Point:
    """Raises DecodeError."""
    parts = items(item, 16, "rating item")
    kind = KINDS.get(uint(parts[0], "kind")) if parts else None
    if kind is None:
        raise DecodeError("a rating item of no known kind")
    point = fields.from_item(kind, parts[1:])
    sizes = len(point.signer), len(point.drawn), len(point.signature)
    if sizes != (PUBLIC_BYTES, 32, SIGNATURE_BYTES):
        raise DecodeError("a rating item has an account and a draw of 32 bytes and a signature of 64")
    return point


def read_rating_item(item: Item) -> RatingItem:
    """An item of a block's rating section. Raises DecodeError."""
    parts = items(item, 16, "rating item")
    if len(parts) == 3 and parts[0] == RULING:
        accusation = point_from_item(parts[1])
        if not isinstance(accusation, Accusation):
            raise DecodeError("a ruling is on an accusation")
        return Ruling(accusation, flag(parts[2], "guilty"))
    point = point_from_item(item)
    if isinstance(point, Commit | Reveal | AuditCommit | AuditReveal | Challenge | Answer):
        return point
    raise DecodeError("an accusation stands in a block with its ruling only")
