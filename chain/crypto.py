"""Hashing and signing: SHA-256 with domain tags, Ed25519 (RFC 8032) by PyNaCl only.

Two Ed25519 libraries disagree on published edge-case signatures; mixing them would split the chain.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

from nacl import bindings
from nacl.exceptions import CryptoError

from chain.errors import ChainError

SEED_BYTES = 32
PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64


def H(tag: str, *parts: bytes) -> bytes:
    """SHA-256 of `len(tag) ‖ tag ‖ parts`.

    The parts are concatenated as they are: callers give fixed-width parts, or one canonical encoding last.
    """
    name = tag.encode("ascii")
    return hashlib.sha256(bytes([len(name)]) + name + b"".join(parts)).digest()


@dataclass(frozen=True, slots=True)
class Keypair:
    """An Ed25519 key pair; the 32-byte public key is the account."""

    public: bytes
    _secret: bytes = field(repr=False, compare=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> Keypair:
        """Derive the pair from a 32-byte seed. Raises ChainError on another length."""
        if len(seed) != SEED_BYTES:
            raise ChainError(f"a key seed has {SEED_BYTES} bytes, not {len(seed)}")
        public, secret = bindings.crypto_sign_seed_keypair(seed)
        return cls(public, secret)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte detached signature."""
        return bytes(bindings.crypto_sign(message, self._secret)[:SIGNATURE_BYTES])


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is the signature of `message` by `public`; wrong lengths are simply False."""
    if len(signature) != SIGNATURE_BYTES or len(public) != PUBLIC_BYTES:
        return False
    try:
        bindings.crypto_sign_open(signature + message, public)
    except (CryptoError, ValueError):
        return False
    return True


@lru_cache(maxsize=16_384)
def verify_once(public: bytes, message: bytes, signature: bytes) -> bool:
    """`verify` for what comes again: votes by gossip and in blocks, seals with headers and blocks."""
    return verify(public, message, signature)
