"""Verifiable random function ECVRF-EDWARDS25519-SHA512-TAI (RFC 9381, suite 0x03).

A signature would not do as a source of randomness: its owner can make many valid Ed25519 signatures
of one message and keep the one that suits. A VRF has exactly one output per key and input.
libsodium additionally refuses points outside the prime-order subgroup, so a proof is accepted by every
node or by none.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from nacl import bindings
from nacl.exceptions import CryptoError

from chain.errors import ChainError

PROOF_BYTES = 80
OUTPUT_BYTES = 64
_ORDER = 2**252 + 27742317777372353535851937790883648493
_FIELD = 2**255 - 19
_SUITE = b"\x03"


def public_key(seed: bytes) -> bytes:
    """The 32-byte VRF public key of a 32-byte seed."""
    return _key(seed)[0]


@lru_cache(maxsize=4096)
def valid_key(public: bytes) -> bool:
    """Whether a public key can verify anything: a canonical point of the prime-order group."""
    return len(public) == 32 and _canonical(public) and bindings.crypto_core_ed25519_is_valid_point(public)


def prove(seed: bytes, alpha: bytes) -> bytes:
    """The 80-byte proof of `alpha` under the key of `seed` (RFC 9381, 5.1)."""
    public, scalar, prefix = _key(seed)
    point = _encode_to_curve(public, alpha)
    gamma = bindings.crypto_scalarmult_ed25519_noclamp(_le(scalar % _ORDER), point)
    nonce = int.from_bytes(hashlib.sha512(prefix + point).digest(), "little") % _ORDER
    u = bindings.crypto_scalarmult_ed25519_base_noclamp(_le(nonce))
    v = bindings.crypto_scalarmult_ed25519_noclamp(_le(nonce), point)
    challenge = _challenge(public, point, gamma, u, v)
    response = (nonce + challenge * scalar) % _ORDER
    return bytes(gamma + challenge.to_bytes(16, "little") + _le(response))


def verify(public: bytes, alpha: bytes, proof: bytes) -> bytes | None:
    """The 64-byte output beta if the proof holds, else None (RFC 9381, 5.3)."""
    if len(proof) != PROOF_BYTES or not valid_key(public) or not _canonical(proof[:32]):
        return None
    gamma = proof[:32]
    challenge = int.from_bytes(proof[32:48], "little")
    response = int.from_bytes(proof[48:], "little")
    if response >= _ORDER:
        return None
    try:
        point = _encode_to_curve(public, alpha)
        u = bindings.crypto_core_ed25519_sub(
            bindings.crypto_scalarmult_ed25519_base_noclamp(_le(response)),
            bindings.crypto_scalarmult_ed25519_noclamp(_le(challenge), public),
        )
        v = bindings.crypto_core_ed25519_sub(
            bindings.crypto_scalarmult_ed25519_noclamp(_le(response), point),
            bindings.crypto_scalarmult_ed25519_noclamp(_le(challenge), gamma),
        )
    except CryptoError:
        return None
    return output(proof) if _challenge(public, point, gamma, u, v) == challenge else None


@lru_cache(maxsize=4096)
def verify_once(public: bytes, alpha: bytes, proof: bytes) -> bytes | None:
    """`verify` for a proof that is checked ahead of its block's execution, or in a header and in a block."""
    return verify(public, alpha, proof)


def output(proof: bytes) -> bytes | None:
    """The output of a proof that is already known to be good (RFC 9381, 5.2); None if it is no proof."""
    if len(proof) != PROOF_BYTES or not _canonical(proof[:32]):
        return None
    try:
        return hashlib.sha512(_SUITE + b"\x03" + _times_cofactor(proof[:32]) + b"\x00").digest()
    except CryptoError:
        return None


def _key(seed: bytes) -> tuple[bytes, int, bytes]:
    if len(seed) != 32:
        raise ChainError(f"a VRF seed has 32 bytes, not {len(seed)}")
    digest = hashlib.sha512(seed).digest()
    low = bytearray(digest[:32])
    low[0] &= 248
    low[31] = (low[31] & 127) | 64
    public, _ = bindings.crypto_sign_seed_keypair(seed)
    return bytes(public), int.from_bytes(low, "little"), digest[32:]


def _encode_to_curve(salt: bytes, alpha: bytes) -> bytes:
    """Try-and-increment (RFC 9381, 5.4.1.1). 256 misses in a row have probability 2^-256."""
    for counter in range(256):
        digest = hashlib.sha512(_SUITE + b"\x01" + salt + alpha + bytes([counter]) + b"\x00").digest()[:32]
        if not _canonical(digest):
            continue
        try:
            return _times_cofactor(digest)
        except CryptoError:
            continue
    raise CryptoError("no curve point found")


def _times_cofactor(point: bytes) -> bytes:
    for _ in range(3):
        point = bindings.crypto_core_ed25519_add(point, point)
    return bytes(point)


def _challenge(*points: bytes) -> int:
    digest = hashlib.sha512(_SUITE + b"\x02" + b"".join(points) + b"\x00").digest()
    return int.from_bytes(digest[:16], "little")


def _canonical(point: bytes) -> bool:
    return int.from_bytes(point, "little") & ((1 << 255) - 1) < _FIELD


def _le(scalar: int) -> bytes:
    return scalar.to_bytes(32, "little")
