"""Hashes, signatures, the VRF and the tree against published vectors, and what must not verify."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain import merkle, vrf
from chain.crypto import H, Keypair, verify
from chain.errors import ChainError

VECTORS = Path(__file__).parent / "vectors"
_SHARED = Path(__file__).parents[3] / "shared/data/vectors"
WYCHEPROOF = Path(os.environ.get("P2PML_WYCHEPROOF", _SHARED / "wycheproof_ed25519_test.json"))
ORDER = 2**252 + 27742317777372353535851937790883648493


def vectors(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


def test_ed25519_vectors() -> None:
    for case in vectors("rfc8032_ed25519.json")["vectors"]:
        pair = Keypair.from_seed(bytes.fromhex(case["seed"]))
        message, signature = bytes.fromhex(case["message"]), bytes.fromhex(case["signature"])
        assert pair.public.hex() == case["public"]
        assert pair.sign(message) == signature
        assert verify(pair.public, message, signature)
        assert not verify(pair.public, message + b"x", signature)


@pytest.mark.skipif(
    not WYCHEPROOF.exists(),
    reason=f"NOT TESTED: Wycheproof is not at {WYCHEPROOF}; set P2PML_WYCHEPROOF to its Ed25519 file",
)
def test_wycheproof_signatures() -> None:
    """C2SP Wycheproof, `ed25519_test.json`: malleability, wrong encodings, small orders, truncations."""
    groups = json.loads(WYCHEPROOF.read_text())["testGroups"]
    cases = [(bytes.fromhex(group["publicKey"]["pk"]), case) for group in groups for case in group["tests"]]
    assert len(cases) == 151
    for public, case in cases:
        found = verify(public, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
        assert found == (case["result"] == "valid"), (case["tcId"], case["comment"])


def test_malleable_and_malformed_signatures_do_not_verify() -> None:
    pair = Keypair.from_seed(bytes(32))
    signature = pair.sign(b"m")
    s = int.from_bytes(signature[32:], "little") + ORDER
    assert not verify(pair.public, b"m", signature[:32] + s.to_bytes(32, "little"))
    assert not verify(pair.public, b"m", signature[:-1])
    assert not verify(pair.public[:-1], b"m", signature)
    assert not verify(b"\x01" + bytes(31), b"m", b"\x01" + bytes(63))  # a small-order key


def test_hash_tags_separate_domains() -> None:
    assert H("ab", b"c") != H("a", b"bc")
    assert H("tag", b"x") == hashlib.sha256(b"\x03tagx").digest()


def test_keypair_does_not_show_its_secret() -> None:
    pair = Keypair.from_seed(bytes(range(32)))
    assert bytes(range(32)).hex() not in repr(pair)
    assert "_secret" not in repr(pair)
    with pytest.raises(ChainError):
        Keypair.from_seed(b"short")


def test_vrf_vectors() -> None:
    for case in vectors("rfc9381_ecvrf.json")["vectors"]:
        seed, alpha = bytes.fromhex(case["secret_key"]), bytes.fromhex(case["alpha"])
        public, proof = bytes.fromhex(case["public_key"]), bytes.fromhex(case["pi"])
        assert vrf.public_key(seed) == public
        assert vrf.prove(seed, alpha) == proof
        beta = vrf.verify(public, alpha, proof)
        assert beta is not None
        assert beta.hex() == case["beta"] == (vrf.output(proof) or b"").hex()


def test_vrf_refuses_what_is_not_a_proof() -> None:
    seed = b"\x07" * 32
    public, proof = vrf.public_key(seed), vrf.prove(seed, b"a")
    assert vrf.verify(public, b"b", proof) is None
    assert vrf.verify(vrf.public_key(b"\x08" * 32), b"a", proof) is None
    assert vrf.verify(public, b"a", proof[:-1]) is None
    for position in (0, 31, 32, 47, 48, 79):
        bad = bytearray(proof)
        bad[position] ^= 1
        assert vrf.verify(public, b"a", bytes(bad)) is None
    s = int.from_bytes(proof[48:], "little") + ORDER
    assert vrf.verify(public, b"a", proof[:48] + s.to_bytes(32, "little")) is None
    identity = b"\x01" + bytes(31)
    assert not vrf.valid_key(identity)
    assert vrf.verify(identity, b"a", proof) is None


@given(st.binary(max_size=90), st.binary(max_size=40), st.binary(max_size=40))
def test_vrf_never_raises_on_garbage(proof: bytes, public: bytes, alpha: bytes) -> None:
    assert vrf.verify(public, alpha, proof) is None
    vrf.output(proof)
    assert not verify(public, alpha, proof)


def test_merkle_vectors() -> None:
    data = vectors("rfc6962_merkle.json")
    leaves = [bytes.fromhex(leaf) for leaf in data["leaves"]]
    for count, expected in enumerate(data["roots"]):
        assert merkle.root(leaves[:count]).hex() == expected


@given(st.integers(1, 40))
def test_merkle_paths_verify_for_their_leaf_only(count: int) -> None:
    leaves = [bytes([i]) * 3 for i in range(count)]
    root = merkle.root(leaves)
    for index, audit in enumerate(merkle.paths(leaves)):
        assert audit == merkle.path(leaves, index)
        assert merkle.verify_path(leaves[index], index, count, audit, root)
        assert not merkle.verify_path(b"other", index, count, audit, root)
        assert not merkle.verify_path(leaves[index], index + count, count, audit, root)
        assert not merkle.verify_path(leaves[index], index, count, (*audit, root), root)
        if audit:
            assert not merkle.verify_path(leaves[index], index, count, audit[:-1], root)


def test_merkle_has_no_duplicate_leaf_and_no_node_as_leaf() -> None:
    three = [b"a", b"b", b"c"]
    assert merkle.root(three) != merkle.root([*three, b"c"])  # CVE-2012-2459
    left = merkle.leaf_hash(b"a") + merkle.leaf_hash(b"b")
    assert merkle.root([b"a", b"b", b"c", b"d"]) != merkle.root([left, b"c", b"d"])
    assert not merkle.verify_path(
        left, 0, 2, (merkle.root([b"c", b"d"]),), merkle.root([b"a", b"b", b"c", b"d"])
    )
    with pytest.raises(IndexError):
        merkle.path(three, 3)
