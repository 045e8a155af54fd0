"""The draw: who may propose in a slot, in proportion to rating, without any race; or the richest.

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
    """The validator drawn for `rank` of `slot`: the owner of rating unit `hash // target`."""
    prefix = seed + slot.to_bytes(8, "big") + rank.to_bytes(1, "big")
    return table.owner(unit("lead", prefix, table.total))


def unit(tag: str, prefix: bytes, total: int) -> int:
    """A number below `total`, each as likely as any other.

    A hash in the remainder beyond total x target would favour nobody fairly and is drawn again.
    """
    divisor = target(total)
    counter = 0
    while True:
        found = int.from_bytes(H(tag, prefix, counter.to_bytes(4, "big")), "big") // divisor
        if found < total:
            return found
        counter += 1


def richest(seed: bytes, slot: int, rank: int, table: WeightTable) -> Weight:
    """The heaviest for rank 0, the next for rank 1 and so on, whatever the seed and the slot are.

    Where there are fewer than ranks they come round again; a key's lowest rank is the one that counts.
    """
    return table.heaviest[rank % len(table.heaviest)]
