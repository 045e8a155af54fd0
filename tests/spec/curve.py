"""Edwards25519 and the check of a VRF proof in plain integers, after RFC 8032 (5.1) and RFC 9381 (5.3).

Only to check the pages: slow, and not constant in time.
"""

from __future__ import annotations

import hashlib

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)
BASE_Y = 4 * pow(5, -1, P) % P

Point = tuple[int, int]
SUITE = b"\x03"


def add(a: Point, b: Point) -> Point:
    (x1, y1), (x2, y2) = a, b
    k = D * x1 * x2 * y1 * y2 % P
    return (
        (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P,
    )


def times(n: int, a: Point) -> Point:
    found: Point = (0, 1)
    while n:
        if n & 1:
            found = add(found, a)
        a, n = add(a, a), n >> 1
    return found


def negative(a: Point) -> Point:
    return (-a[0] % P, a[1])


def encode(a: Point) -> bytes:
    return (a[1] | (a[0] & 1) << 255).to_bytes(32, "little")


def decode(data: bytes) -> Point | None:
    """The point, or None if the bytes are none."""
    y = int.from_bytes(data, "little") & 2**255 - 1
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if y >= P or (x * x - square) % P or (x == 0 and data[31] >> 7):
        return None
    return (P - x if x & 1 != data[31] >> 7 else x, y)


def output(proof: bytes) -> bytes:
    """The VRF output of a proof, as it stands."""
    gamma = decode(proof[:32])
    assert gamma is not None
    return hashlib.sha512(SUITE + b"\x03" + encode(times(8, gamma)) + b"\x00").digest()


def proves(key: bytes, alpha: bytes, proof: bytes) -> bool:
    """Whether a VRF proof holds."""
    public, gamma, base = decode(key), decode(proof[:32]), decode(BASE_Y.to_bytes(32, "little"))
    assert public is not None
    assert base is not None
    if gamma is None:
        return False
    point = None
    counter = 0
    while point is None:
        tried = hashlib.sha512(SUITE + b"\x01" + key + alpha + bytes([counter]) + b"\x00").digest()[:32]
        point, counter = decode(tried), counter + 1
    point = times(8, point)
    c, s = int.from_bytes(proof[32:48], "little"), int.from_bytes(proof[48:], "little")
    u = add(times(s, base), negative(times(c, public)))
    v = add(times(s, point), negative(times(c, gamma)))
    points = b"".join(map(encode, (public, point, gamma, u, v)))
    challenge = hashlib.sha512(SUITE + b"\x02" + points + b"\x00").digest()[:16]
    return s < L and challenge == proof[32:48]
