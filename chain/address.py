"""The text form of an account: `pml1` and the base32 of the 32-byte public key with a 4-byte checksum."""

from __future__ import annotations

import base64
import binascii

from chain.crypto import PUBLIC_BYTES, H

PREFIX = "pml1"
_CHECKSUM = 4
_LENGTH = len(PREFIX) + 58


def encode(public: bytes) -> str:
    """The address of a 32-byte public key."""
    if len(public) != PUBLIC_BYTES:
        raise ValueError(f"an account has {PUBLIC_BYTES} bytes, not {len(public)}")
    body = base64.b32encode(public + _checksum(public)).decode("ascii")
    return PREFIX + body.rstrip("=").lower()


def decode(text: str) -> bytes:
    """The 32-byte account of an address. Raises ValueError with what is wrong with it."""
    if not text.startswith(PREFIX):
        raise ValueError(f"an address starts with {PREFIX!r}, this one is {text[:12]!r}")
    if len(text) != _LENGTH:
        raise ValueError(f"an address has {_LENGTH} characters, this one has {len(text)}")
    body = text[len(PREFIX) :]
    try:
        raw = base64.b32decode(body.upper() + "=" * (-len(body) % 8))
    except (binascii.Error, ValueError):
        raise ValueError("an address holds only the letters a-z and the digits 2-7") from None
    public = raw[:PUBLIC_BYTES]
    if raw[PUBLIC_BYTES:] != _checksum(public):
        raise ValueError("the address's checksum does not match: it was mistyped or cut")
    # Unused low bits of the last character and upper case would give one account several spellings.
    if encode(public) != text:
        raise ValueError("the address is not written in its one canonical form (lower case)")
    return public


def _checksum(public: bytes) -> bytes:
    return H("address", public)[:_CHECKSUM]
