"""The draw: who may propose in a slot, in proportion to rating, without any race.

`target = floor(2^256 / W)`: more rated power means a smaller target, as in Bitcoin, but nothing is
ground for it. A 256-bit hash divided by the target is a rating unit; its owner has won. Ranks are
drawn independently and with replacement, so that splitting one rating among many keys gains nothing.
"""

from __future__ import annotations

from chain.crypto import H
from chain.weights import Weight, WeightTable


def target(total: int) -> int:
    """floor(2^256 / total); fits 256 bits because a genesis has a total of at least 2."""
    return 2**256 // total


def genesis_seed(chain_id: bytes, epoch: int) -> bytes:
    """The 32-byte seed of epochs 0 to 2, for which no mix has closed yet."""
    return H("seed-genesis", chain_id, epoch.to_bytes(8, "big"))


def epoch_seed(epoch: int, mix: bytes) -> bytes:
    """The 32-byte seed of a later epoch from the mix at the end of epoch - 2."""
    return H("seed", epoch.to_bytes(8, "big"), mix)


def next_mix(mix: bytes, beta: bytes) -> bytes:
    """Fold a rank-0 VRF output into the mix. Fallback ranks do not count, so withholding buys one bit."""
    return H("mix", mix, beta)


def alpha(chain_id: bytes, slot: int, seed: bytes) -> bytes:
    """The VRF input of a slot; the same for every rank."""
    return H("alpha", chain_id, slot.to_bytes(8, "big"), seed)


def draw(seed: bytes, slot: int, rank: int, table: WeightTable) -> Weight:
    """The validator drawn for `rank` of `slot`: the owner of rating unit `hash // target`.

    A hash in the remainder beyond W x target would favour nobody fairly and is drawn again.
    """
    total = table.total
    divisor = target(total)
    prefix = seed + slot.to_bytes(8, "big") + rank.to_bytes(1, "big")
    counter = 0
    while True:
        digest = H("lead", prefix, counter.to_bytes(4, "big"))
        unit = int.from_bytes(digest, "big") // divisor
        if unit < total:
            return table.owner(unit)
        counter += 1


def rank_of(public: bytes, seed: bytes, slot: int, ranks: int, table: WeightTable) -> int | None:
    """The rank in which `public` may propose: its lowest one, or None if it was not drawn."""
    for rank in range(ranks):
        if draw(seed, slot, rank, table).public == public:
            return rank
    return None
