"""Who is to blame is a type.

Everything that a peer can cause raises `InvalidError` or one of its subclasses and nothing else;
any other `ChainError` is a mistake of the local caller or of the operator's own files.
"""

from __future__ import annotations


class ChainError(Exception):
    """A local mistake: a wrong argument, a bad genesis file, a full pool."""


class ParamsError(ChainError):
    """Chain parameters that contradict each other or are out of range."""


class GenesisError(ChainError):
    """A genesis file that cannot be used; the message names the field and what is wrong with it."""


class UnknownBlock(ChainError):
    """The local caller asked for a block that is not (or no longer) held."""


class PoolFull(ChainError):
    """The pool has no room for this item: nobody's fault, try again later."""


class InvalidError(ChainError):
    """Bytes, a transaction, a record or a block that breaks a rule. Caused by whoever sent it."""


class DecodeError(InvalidError):
    """Bytes that are not the canonical encoding of the expected object."""


class InvalidTransaction(InvalidError):
    """A transaction that cannot be applied to the state at hand."""


class InvalidRecord(InvalidError):
    """A round record that cannot be applied to the state at hand."""


class InvalidVote(InvalidError):
    """A vote that a block on this branch cannot hold, or that nobody may cast."""


class UnknownVoter(InvalidVote):
    """Nobody with that account votes here; on another branch, with other ratings, it may."""


class InvalidRating(InvalidError):
    """A rating that nobody may be given here, an item of a rating window that breaks a rule, or a claim of
    work that contradicts itself or nature.
    """


class InvalidEvidence(InvalidError):
    """Evidence that does not hold, or that convicts nobody who can still be punished."""


class InvalidBlock(InvalidError):
    """A block or sealed header that breaks a rule."""


class InvalidSnapshot(InvalidError):
    """A snapshot, or a part of one, that is not under the state root that is trusted."""


class UnknownParent(InvalidError):
    """A block whose parent is not known here.

    Attributes:
        parent: 32-byte id of the missing block.
    """

    def __init__(self, parent: bytes) -> None:
        super().__init__(f"unknown parent {parent.hex()[:16]}")
        self.parent = parent


class StaleBlock(InvalidError):
    """A block that leaves the best branch deeper than blocks are kept: too late to be looked at."""


class FutureBlock(InvalidError):
    """A block that may not be looked at yet: its slot, or its rank within the slot, has not begun.

    Attributes:
        ready_at_ms: Unix time in milliseconds from which the block may be offered again.
    """

    def __init__(self, ready_at_ms: int) -> None:
        super().__init__(f"block is not due before {ready_at_ms} ms")
        self.ready_at_ms = ready_at_ms
