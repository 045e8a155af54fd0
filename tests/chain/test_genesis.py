"""Parameters, the genesis file and addresses: strict, with errors that name the field."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain import address, params
from chain.errors import GenesisError, InvalidError, ParamsError
from chain.genesis import Genesis
from chain.params import DEMO, PRESETS, ChainParams, preset


@given(st.binary(min_size=32, max_size=32))
def test_address_roundtrip(public: bytes) -> None:
    text = address.encode(public)
    assert text.startswith("pml1")
    assert address.decode(text) == public


def test_every_mistyped_character_of_an_address_is_noticed() -> None:
    text = address.encode(bytes(range(32)))
    for position in range(4, len(text)):
        other = "a" if text[position] != "a" else "b"
        with pytest.raises(ValueError):
            address.decode(text[:position] + other + text[position + 1 :])


@pytest.mark.parametrize(
    "text", ["", "pml1", "btc1" + "a" * 58, "pml1" + "a" * 57, "pml1" + "1" * 58, "pml1" + "ü" * 58]
)
def test_malformed_addresses_are_value_errors(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        address.decode(text)


def test_address_has_one_spelling() -> None:
    text = address.encode(bytes(range(32)))
    with pytest.raises(ValueError):
        address.decode("pml1" + text[4:].upper())


DAY_MS = 86_400_000
TABLE: dict[str, tuple[int | str, ...]] = {
    "slot_ms": (12_000, 4_000, 2_000, 4_000),
    "rank_step_ms": (2_000, 800, 500, 800),
    "ranks": (4, 4, 3, 3),
    "slots_per_epoch": (64, 32, 16, 32),
    "checkpoint_slots": (2, 1, 1, 1),
    "boost_percent": (40,) * 4,
    "max_user_txs": (2_000, 200, 5, 5),
    "min_fee": (params.TOKEN // 10,) * 4,
    "issuance_per_block": (params.TOKEN,) * 4,
    "proposer_share_percent": (40,) * 4,
    "voters_share_percent": (40,) * 4,
    "auditors_share_percent": (20,) * 4,
    "bond": (10 * params.TOKEN, params.TOKEN, params.TOKEN, params.TOKEN),
    "job_challenge_slots": (600, 64, 16, 16),
    "baseline_infohash": ("00" * 20,) * 4,
    "window_slots": (50, 30, 5, 30),
    "window_every_epochs": (3_375, 675, 4, 0),
    "surprise_slots": (5, 0, 0, 0),
    "surprise_every_epochs": (112,) * 4,
    "grace_slots": (16, 16, 4, 16),
    "reveal_slots": (16, 16, 4, 16),
    "audit_commit_slots": (64, 32, 8, 32),
    "audit_reveal_slots": (16, 16, 4, 16),
    "challenge_slots": (32, 32, 8, 32),
    "max_rulings": (1,) * 4,
    "energy_span_ppm": (0, 50_000, 50_000, 0),
    "q_min": (750_000,) * 4,
    "q_ref": (950_000,) * 4,
    "proposal_epochs": (4,) * 4,
    "max_proposals": (16,) * 4,
    "max_tx_bytes": (16 * 1024,) * 4,
    "max_body_bytes": (2 * 1024 * 1024, 512 * 1024, 512 * 1024, 512 * 1024),
}
EVIDENCE_BAR_AND_RATING_DAYS = {"main": (30, 3 * 35, 35), "lab": (3, 3 * 3, 3)}


def test_presets_are_those_of_the_table() -> None:
    """Source: the parameter table of the consensus design; numbers here are not computed from the code."""
    assert tuple(PRESETS) == ("main", "lab", "demo", "report")
    for name, values in TABLE.items():
        assert tuple(getattr(preset, name) for preset in PRESETS.values()) == values, name
    for name, days in EVIDENCE_BAR_AND_RATING_DAYS.items():
        rules = PRESETS[name]
        epoch_ms = rules.slot_ms * rules.slots_per_epoch
        periods = (rules.evidence_epochs, rules.bar_epochs, rules.rating_epochs)
        for epochs, wanted in zip(periods, days, strict=True):
            assert epochs == -(-wanted * DAY_MS // epoch_ms), name
    for rules in (PRESETS["demo"], PRESETS["report"]):
        assert (rules.evidence_epochs, rules.bar_epochs, rules.rating_epochs) == (12, 36, 12)
    assert [preset.selection for preset in PRESETS.values()] == ["rating", "rating", "rating", "richest"]


def test_a_preset_that_does_not_exist() -> None:
    with pytest.raises(ParamsError, match="choose from main, lab, demo, report"):
        preset("dem")


@pytest.mark.parametrize(
    "change",
    [
        {"selection": "poorest"},
        {"rating_epochs": 0},
        {"slot_ms": 0},
        {"slot_ms": True},
        {"ranks": 5, "rank_step_ms": 500},
        {"ranks": 17, "rank_step_ms": 1},
        {"min_fee": -1},
        {"proposer_share_percent": 41},
        {"voters_share_percent": 41},
        {"auditors_share_percent": 21},
        {"boost_percent": 101},
        {"issuance_per_block": 10**12},
        {"max_body_bytes": 10**9},
        {"max_user_txs": 5000},
        {"baseline_infohash": "00"},
        {"baseline_infohash": "AB" * 20},
        {"baseline_infohash": 5},
        {"q_min": 950_000},
        {"q_ref": 10**6 + 1},
        {"max_proposals": 65},
        {"max_rating_items": 5000},
        {"energy_span_ppm": 10**6},
        {"window_every_epochs": 2},
        {"window_slots": 29},
    ],
)
def test_params_that_make_no_sense(change: dict[str, Any]) -> None:
    with pytest.raises(ParamsError):
        replace(DEMO, **change)


def test_genesis_file_roundtrip(world: Any) -> None:
    again = Genesis.from_json(world.genesis.to_json())
    assert again == world.genesis
    assert again.chain_id == world.genesis.chain_id


def test_chain_id_covers_everything(world: Any) -> None:
    genesis: Genesis = world.genesis
    founder = genesis.validators[0]
    account, amount = genesis.allocations[0]
    variants = [
        genesis,
        replace(genesis, chain_name="other"),
        replace(genesis, time_ms=genesis.time_ms + 1),
        replace(genesis, params=replace(DEMO, min_fee=1)),
        replace(genesis, validators=(replace(founder, rating=11), *genesis.validators[1:])),
        replace(genesis, validators=(replace(founder, rated_until=7), *genesis.validators[1:])),
        replace(genesis, allocations=((account, amount + 1), *genesis.allocations[1:])),
    ]
    assert len({variant.chain_id for variant in variants}) == len(variants)


def test_order_in_the_file_does_not_matter(world: Any) -> None:
    genesis: Genesis = world.genesis
    other = replace(genesis, validators=genesis.validators[::-1], allocations=genesis.allocations[::-1])
    assert other.chain_id == genesis.chain_id


def broken(genesis: Genesis, path: list[Any], value: Any) -> str:
    document = json.loads(genesis.to_json())
    place = document
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["format"], 2, "format"),
        (["chain_name"], None, "chain_name is missing"),
        (["chain_name"], "", "chain_name"),
        (["chain_name"], "a\x1bb", "chain_name"),
        (["chain_name"], "\ud800", "surrogates"),
        (["time_ms"], 1.5, "time_ms"),
        (["time_ms"], -1, "time_ms"),
        (["extra"], 1, "genesis.extra is not a known field"),
        (["params", "slot_ms"], None, "slot_ms is missing"),
        (["params", "slot_ms"], "fast", "slot_ms"),
        (["params", "slots"], 3, "genesis.params.slots is not a known field"),
        (["validators"], [], "validators"),
        (["validators", 0, "account"], "pml1xyz", "validators[0].account"),
        (["validators", 0, "vrf_public"], "zz", "vrf_public must be hexadecimal"),
        (["validators", 0, "vrf_public"], "01" + "00" * 31, "not a VRF key"),
        (["validators", 0, "rating"], 0, "rating"),
        (["validators", 0, "rated_until"], None, "validators[0].rated_until is missing"),
        (["validators", 0, "rated_until"], 2**53, "rated_until"),
        (["validators", 0], 7, "validators[0] must be an object"),
        (["allocations", 0, "amount"], 2**63 + 1, "allocation"),
        (["allocations", 0, "amount"], 0, "allocation"),
    ],
)
def test_bad_genesis_files_name_the_field(world: Any, path: list[Any], value: Any, message: str) -> None:
    with pytest.raises(GenesisError) as caught:
        Genesis.from_json(broken(world.genesis, path, value))
    assert message in str(caught.value)
    assert not isinstance(caught.value, InvalidError)


def test_duplicates_and_empty_tables_are_refused(world: Any) -> None:
    genesis: Genesis = world.genesis
    first = genesis.validators[0]
    with pytest.raises(GenesisError, match="share one public"):
        replace(genesis, validators=(first, replace(first, vrf_public=genesis.validators[1].vrf_public)))
    with pytest.raises(GenesisError, match="share one vrf_public"):
        replace(genesis, validators=(first, replace(first, public=bytes(32))))
    with pytest.raises(GenesisError, match="at least 2"):
        replace(genesis, validators=(replace(first, rating=1),))
    with pytest.raises(GenesisError, match="two allocations"):
        replace(genesis, allocations=genesis.allocations * 2)


@given(st.text(max_size=50) | st.binary(max_size=50))
def test_garbage_files_raise_genesis_error(data: str | bytes) -> None:
    with pytest.raises(GenesisError):
        Genesis.from_json(data)


def test_params_are_immutable() -> None:
    with pytest.raises(AttributeError):
        ChainParams().ranks = 2  # type: ignore[misc]
