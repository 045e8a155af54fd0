"""The rules of the specification, written a second time: hashlib, PyNaCl, msgpack, the pages, no more."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgpack
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tests.spec.reading import lines, region


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tagged(tag: str, *parts: bytes) -> bytes:
    return sha(bytes([len(tag)]) + tag.encode() + b"".join(parts))


def pack(item: Any) -> bytes:
    return bytes(msgpack.packb(item, use_bin_type=True))


def unpack(data: bytes) -> Any:
    return msgpack.unpackb(data, raw=False)


def signed(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        VerifyKey(public).verify(message, signature)
    except BadSignatureError:
        return False
    return True


def merkle(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, 2.1."""
    if len(leaves) < 2:
        return sha(b"\0" + leaves[0]) if leaves else sha(b"")
    split = 1
    while 2 * split < len(leaves):
        split *= 2
    return sha(b"\1" + merkle(leaves[:split]) + merkle(leaves[split:]))


def weights() -> list[tuple[bytes, str, int]]:
    """Account, name, rating of the example's validators, by account."""
    rows = lines(region("lottery", "weight-table"))
    return [(bytes.fromhex(account), name, int(rating)) for account, name, rating, _ in rows]


def parameter(name: str, preset: str = "demo") -> int:
    column = 1 + ["main", "lab", "demo", "report"].index(preset)
    [row] = [row for row in lines(region("presets", "parameters")) if row[0] == name]
    return int(row[column].replace(",", ""))


def drawn(seed: bytes, slot: int, rank: int) -> bytes:
    table = weights()
    total = sum(rating for *_, rating in table)
    counter = 0
    while True:
        prefix = seed + slot.to_bytes(8, "big") + rank.to_bytes(1, "big")
        unit = int.from_bytes(tagged("lead", prefix, counter.to_bytes(4, "big")), "big") // (2**256 // total)
        for account, _, rating in table:
            if unit < rating:
                return account
            unit -= rating
        counter += 1


def vote_holds(vote: list[Any], chain_id: bytes) -> bool:
    return signed(vote[0], tagged("vote", chain_id, pack(vote[:-1])), vote[-1])
