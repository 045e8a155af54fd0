"""Everything random of the baseline test, from hashes: nothing can be computed or copied beforehand.

SHAKE-256 is used where more than 32 bytes are needed; its input is framed like that of `chain.crypto.H`.
Numbers that are hashed are big-endian; words that are read out of a stream are little-endian.
"""

from __future__ import annotations

import hashlib

from chain.baseline.net import Net
from chain.crypto import H
from chain.errors import ChainError


def challenge(mix: bytes, window: int, account: bytes) -> bytes:
    """The 32 bytes that one node's windows of training follow from.

    Args:
        mix: 32 bytes, the randomness of the checkpoint before the window.
        window: its number.
        account: 32 bytes, whose rating it is.

    Raises:
        ChainError: a mix or an account of another length.
    """
    if len(mix) != 32 or len(account) != 32:
        raise ChainError("a challenge is made of a mix and an account of 32 bytes each")
    return H("baseline", mix, _number(window), account)


def episode_seed(given: bytes, episode: int) -> bytes:
    """32 bytes from which an episode's initial weights and batches follow."""
    return H("baseline-episode", given, _number(episode))


def mix_bits(net: Net) -> bytes:
    """The signs of the mixing matrix [pixels, inputs], row by row, most significant bit first; 1 is +1.

    The same for everybody: it may be computed once per data set.
    """
    shape = net.pixels.to_bytes(4, "big") + net.inputs.to_bytes(4, "big")
    return _stream("baseline-mix", shape, size=(net.pixels * net.inputs + 7) // 8)


def weight_words(net: Net, seed: bytes) -> tuple[bytes, bytes]:
    """Two bytes for each initial weight, layer by layer, row by row."""
    first, second = (
        _stream("baseline-weights", seed, bytes([layer]), size=2 * rows * columns)
        for layer, (rows, columns) in enumerate(net.shapes)
    )
    return first, second


def batch_words(net: Net, seed: bytes, segment: int) -> bytes:
    """Four bytes for each sample of each step of a segment."""
    return _stream("baseline-batches", seed, _number(segment), size=4 * net.segment_samples)


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def _stream(tag: str, *parts: bytes, size: int) -> bytes:
    name = tag.encode("ascii")
    return hashlib.shake_256(bytes([len(name)]) + name + b"".join(parts)).digest(size)
