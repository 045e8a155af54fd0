"""The stubs of large runs: they refuse what is wrong, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

from chain import crypto, forkchoice, vrf
from chain.crypto import Keypair, verify
from chain.transition import apply_body
from p2pml.sim.energy import Meter
from p2pml.sim.shortcuts import shared_transitions, stubbed_crypto

SEED = bytes(range(32))


def test_stubbed_signatures_belong_to_key_and_message() -> None:
    with stubbed_crypto():
        pair, other = Keypair.from_seed(SEED), Keypair.from_seed(bytes(32))
        signature = pair.sign(b"message")
        assert len(signature) == crypto.SIGNATURE_BYTES
        assert verify(pair.public, b"message", signature)
        assert not verify(pair.public, b"another", signature)
        assert not verify(other.public, b"message", signature)
    assert not verify(pair.public, b"message", signature)


def test_stubbed_vrf_has_one_output_per_key_and_input() -> None:
    with stubbed_crypto():
        public, proof = vrf.public_key(SEED), vrf.prove(SEED, b"alpha")
        beta = vrf.verify(public, b"alpha", proof)
        assert beta is not None
        assert (len(proof), len(beta)) == (vrf.PROOF_BYTES, vrf.OUTPUT_BYTES)
        assert vrf.output(proof) == beta
        assert vrf.verify(public, b"beta", proof) is None
        assert vrf.verify(vrf.public_key(bytes(32)), b"alpha", proof) is None
        assert vrf.prove(SEED, b"beta") != proof


def test_everything_is_put_back() -> None:
    before = crypto.bindings, vrf.prove, vrf.verify, vrf.output, vrf.public_key, vrf.valid_key
    with stubbed_crypto(), shared_transitions():
        assert crypto.bindings is not before[0]
        assert vars(forkchoice)["apply_body"] is not apply_body
    assert (crypto.bindings, vrf.prove, vrf.verify, vrf.output, vrf.public_key, vrf.valid_key) == before
    assert vars(forkchoice)["apply_body"] is apply_body


def test_the_meter_reads_joules_where_there_is_a_counter(tmp_path: Path) -> None:
    for name, value in (("energy_uj", 9_000_000), ("max_energy_range_uj", 10_000_000)):
        (tmp_path / name).write_text(f"{value}\n")
    with Meter(tmp_path) as meter:
        (tmp_path / "energy_uj").write_text("1000000\n")  # it has begun anew
    assert meter.joules == 2.0
    with Meter(tmp_path / "none") as meter:
        pass
    assert meter.joules is None
