"""What is drawn once commitments are closed: which episodes are evaluated, on which test samples.

Everything comes out of SHAKE-256, its input framed like that of `chain.crypto.H`; numbers are big-endian.
"""

from __future__ import annotations

import hashlib

EVALUATED = 2
"""Episodes of a claim that are evaluated; fewer where it has fewer."""
_WORD = 8


def evaluated(draw: bytes, account: bytes, episodes: int) -> tuple[int, ...]:
    """The indexes, ascending, of the leaves under a claim's `episodes_root` that are to be evaluated.

    Args:
        draw: 32 bytes, of the window.
        account: 32 bytes, whose claim it is.
        episodes: that it claims.
    """
    return sample("rating-evaluated", draw + account, episodes, EVALUATED)


def split(draw: bytes, count: int) -> tuple[int, ...]:
    """The drawn half of `count` test samples (the larger one), ascending: the same for everybody.

    Each sample has a word of 8 bytes; those with the smallest are drawn, of equal ones the first.
    """
    words = _stream("rating-split", draw, _WORD * count)
    order = sorted(range(count), key=lambda place: (words[_WORD * place : _WORD * (place + 1)], place))
    return tuple(sorted(order[: (count + 1) // 2]))


def sample(tag: str, seed: bytes, count: int, size: int) -> tuple[int, ...]:
    """`size` distinct numbers below `count`, ascending; all of them if there are no more.

    The k-th word of 16 bytes, modulo `count`, is a number; what came before is passed over.

    Args:
        tag: what they are for, ASCII.
        seed: bytes of a fixed length.
    """
    if count <= size:
        return tuple(range(count))
    chosen: set[int] = set()
    word = 0
    while len(chosen) < size:
        digest = _stream(tag, seed + word.to_bytes(8, "big"), 2 * _WORD)
        chosen.add(int.from_bytes(digest, "big") % count)
        word += 1
    return tuple(sorted(chosen))


def _stream(tag: str, seed: bytes, size: int) -> bytes:
    name = tag.encode("ascii")
    return hashlib.shake_256(bytes([len(name)]) + name + seed).digest(size)
