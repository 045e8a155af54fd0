"""What large consensus runs replace in the cores, and nothing else: signatures, and work done twice.

Both are seams under the cores, taken back at the end of the `with` block:

- `stubbed_crypto`: Ed25519 and the VRF become keyed hashes. Anybody could forge them; no simulated node does.
  Which key signs what, how often, and how long the results are stays as it was.
- `shared_transitions`: a block is executed once for all nodes of the process. A block names its parent and
  with it the parent's whole state, so every node would come to the same state, or to the same refusal.

Not for threads: they change modules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nacl.exceptions import CryptoError

from chain import crypto, forkchoice, vrf
from chain.errors import InvalidError
from chain.recent import Recent
from chain.state import State
from chain.transition import apply_body
from chain.types import Block

_REMEMBERED = 1024


class KeyedHashes:
    """The calls of libsodium that `chain.crypto` makes; a signature is a hash of key and message."""

    @staticmethod
    def crypto_sign_seed_keypair(seed: bytes) -> tuple[bytes, bytes]:
        """Public key and secret; the secret is the public key."""
        public = hashlib.sha256(b"stub-key" + seed).digest()
        return public, public

    @staticmethod
    def crypto_sign(message: bytes, secret: bytes) -> bytes:
        """64 bytes of hash, then the message."""
        return hashlib.sha512(b"stub-signature" + secret + message).digest() + message

    @classmethod
    def crypto_sign_open(cls, signed: bytes, public: bytes) -> bytes:
        """Raises CryptoError unless `crypto_sign` made it."""
        message = signed[crypto.SIGNATURE_BYTES :]
        if cls.crypto_sign(message, public) != signed:
            raise CryptoError("not the keyed hash")
        return message


def _vrf_public(seed: bytes) -> bytes:
    return hashlib.sha256(b"stub-vrf-key" + seed).digest()


def _vrf_proof(public: bytes, alpha: bytes) -> bytes:
    return hashlib.sha512(b"stub-vrf" + public + alpha).digest() + bytes(vrf.PROOF_BYTES - vrf.OUTPUT_BYTES)


def _vrf_output(proof: bytes) -> bytes | None:
    return proof[: vrf.OUTPUT_BYTES] if len(proof) == vrf.PROOF_BYTES else None


def _vrf_verify(public: bytes, alpha: bytes, proof: bytes) -> bytes | None:
    return _vrf_output(proof) if proof == _vrf_proof(public, alpha) else None


@contextmanager
def stubbed_crypto() -> Iterator[None]:
    """Keyed hashes for Ed25519 and the VRF while it lasts. Keys made inside do not fit outside."""
    stubs: list[tuple[Any, str, Any]] = [
        (crypto, "bindings", KeyedHashes),
        (vrf, "public_key", _vrf_public),
        (vrf, "valid_key", lambda public: len(public) == crypto.PUBLIC_BYTES),
        (vrf, "prove", lambda seed, alpha: _vrf_proof(_vrf_public(seed), alpha)),
        (vrf, "verify", _vrf_verify),
        (vrf, "output", _vrf_output),
    ]
    with _replaced(stubs):
        yield


@contextmanager
def shared_transitions() -> Iterator[None]:
    """Every block's body is applied once while it lasts, whichever node asks first."""
    known: Recent[bytes, State | InvalidError] = Recent(_REMEMBERED)

    def once(parent: State, block: Block, beta: bytes, *, verify_votes: bool = True) -> State:
        found = known.get(block.fingerprint)
        if found is None:
            try:
                found = apply_body(parent, block, beta, verify_votes=verify_votes)
            except InvalidError as error:
                found = error
            known.put(block.fingerprint, found)
        if isinstance(found, InvalidError):
            raise found.with_traceback(None)
        return found

    with _replaced([(forkchoice, "apply_body", once)]):
        yield


@contextmanager
def _replaced(stubs: list[tuple[Any, str, Any]]) -> Iterator[None]:
    before = [(module, name, getattr(module, name)) for module, name, _ in stubs]
    for module, name, stub in stubs:
        setattr(module, name, stub)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
