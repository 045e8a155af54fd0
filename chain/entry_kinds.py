"""Reading the state's entries back from their canonical bytes: what each kind of key holds."""

from __future__ import annotations

from chain import fields
from chain.codec import unpack
from chain.entries import (
    Account,
    DatasetEntry,
    Entry,
    EpochEntry,
    Governance,
    Job,
    NameEntry,
    RoundEntry,
    Validator,
    Vesting,
    VrfOwner,
)
from chain.errors import DecodeError
from chain.rating.entries import Claim, Duty, Mixes, Standing, Window

MAX_ENTRY_BYTES = 256 * 1024
"""The largest is a round whose 8,192 clients have been paid."""

KINDS: dict[bytes, type[Entry]] = {
    b"a": Account,
    b"c": Claim,
    b"d": DatasetEntry,
    b"e": EpochEntry,
    b"g": Governance,
    b"j": Job,
    b"k": VrfOwner,
    b"m": Mixes,
    b"n": NameEntry,
    b"q": Duty,
    b"r": RoundEntry,
    b"s": Standing,
    b"t": Window,
    b"v": Validator,
    b"w": Vesting,
}
"""By the first byte of their keys."""


def decode_entry(key: bytes, data: bytes) -> Entry:
    """The entry under a key. Raises DecodeError, also if the entry would be encoded otherwise."""
    kind = KINDS.get(key[:1])
    if kind is None:
        raise DecodeError("no entry has such a key")
    entry = fields.from_item(kind, unpack(data, MAX_ENTRY_BYTES))
    if entry.encoded != data:
        raise DecodeError(f"not the encoding of its {kind.__name__}")
    return entry
