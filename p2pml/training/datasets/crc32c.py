"""CRC-32C (Castagnoli, RFC 3720 appendix B.4) in NumPy: blocks at once instead of byte by byte."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78
_BLOCK = 256
_Table = npt.NDArray[np.uint32]


def crc32c(data: bytes) -> int:
    """The checksum of `data`."""
    state = 0xFFFFFFFF
    ragged = len(data) % _BLOCK
    base, places, skip = _tables()
    for byte in data[:ragged]:
        state = int(base[(state ^ byte) & 0xFF]) ^ (state >> 8)
    blocks = np.frombuffer(data, np.uint8, offset=ragged).reshape(-1, _BLOCK)
    # A checksum is linear: that of a block is the sum (xor) of what each byte gives at its place.
    for block in np.bitwise_xor.reduce(places[np.arange(_BLOCK), blocks], axis=1).tolist():
        state = (
            skip[0][state & 0xFF]
            ^ skip[1][state >> 8 & 0xFF]
            ^ skip[2][state >> 16 & 0xFF]
            ^ skip[3][state >> 24]
        ) ^ block
    return state ^ 0xFFFFFFFF


@cache
def _tables() -> tuple[_Table, _Table, list[list[int]]]:
    """What one byte does to an empty state; what it has done once the rest of its block has passed, by its
    place; and what a block of zeros does to each byte of a state."""
    base = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        base = np.where(base & 1, (base >> 1) ^ np.uint32(_POLYNOMIAL), base >> 1)
    places = np.empty((_BLOCK, 256), np.uint32)
    places[-1] = base
    for place in range(_BLOCK - 2, -1, -1):
        places[place] = base[places[place + 1] & 0xFF] ^ (places[place + 1] >> 8)
    skip = np.arange(256, dtype=np.uint32) << np.array([[0], [8], [16], [24]], np.uint32)
    for _ in range(_BLOCK):
        skip = base[skip & 0xFF] ^ (skip >> 8)
    return base, places, skip.tolist()
