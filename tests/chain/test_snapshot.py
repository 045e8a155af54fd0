"""Snapshots: what is written is read back equal in every respect, and what is false is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain import buckets, fields, snapshot
from chain.buckets import BUCKETS
from chain.codec import pack, unpack
from chain.draft import Draft
from chain.entries import (
    Account,
    DatasetEntry,
    Entry,
    EpochEntry,
    Governance,
    Grant,
    Job,
    JobStatus,
    NameEntry,
    Proposal,
    RoundEntry,
    Validator,
    Vesting,
    VrfOwner,
    account_key,
)
from chain.entry_kinds import KINDS, decode_entry
from chain.errors import ChainError, DecodeError, InvalidError, InvalidSnapshot
from chain.finality import Finality
from chain.quality import Baseline
from chain.rating.closing import Reason
from chain.rating.entries import (
    Claim,
    Duty,
    Evaluated,
    Mixes,
    OpenChallenge,
    Outcome,
    Standing,
    Window,
)
from chain.rating.items import Report
from chain.snapshot import Assembly, Manifest, Snapshot, TrustedPoint
from chain.state import genesis_state
from chain.training_records import RoundRecord
from tests.chain.conftest import World
from tests.chain.snapshots import busy_world, rebuilt, snapshot_of

K = bytes(range(32))
RECORD = RoundRecord(K, 0, K, K, K, 1, 2, 3, 4, bytes(64))
ENTRIES: dict[bytes, tuple[Entry, ...]] = {
    b"a": (Account(), Account(2**64 - 1, 7)),
    b"c": (
        Claim(24, 20, K, 2, K, 0),
        Claim(
            24,
            20,
            K,
            1,
            K,
            9,
            (Evaluated(3, K, ((5, 0), (1, 4))),),
            True,
            (OpenChallenge(K, (7,), 30),),
            (K,),
        ),
    ),
    b"d": (DatasetEntry("Größe", bytes(20), 1, "", False, K, 9),),
    b"e": (EpochEntry(5),),
    b"g": (
        Governance(),
        Governance(
            ((3, Baseline(bytes(20), 0, 1)),), (Proposal(K, K, Baseline(bytes(20), 5, 9), 7, (K, K)),)
        ),
    ),
    b"j": (Job(K, K, bytes(20), K, K, 1, 2, 3, 4, 5, 6, "trusted", JobStatus.REFUNDED, 1, 2),),
    b"k": (VrfOwner(K),),
    b"m": (Mixes(), Mixes(((1, K), (2, K)))),
    b"n": (NameEntry(bytes(20)),),
    b"q": (Duty(24, K), Duty(24, K, (Report(K, bytes(16)),))),
    b"r": (RoundEntry(None, (1, 2)), RoundEntry(RECORD, (), 5)),
    b"s": (Standing(), Standing(5, (Outcome(24, 270, 20, 1, 2, 3, Reason.POOR, 5, 6),))),
    b"t": (Window(), Window(24, 2, 3, K, K, K, False, 4, 5)),
    b"v": (Validator(K, K, 3, "a", 4, True, 5, 6),),
    b"w": (Vesting(), Vesting((Grant(1, 2, 3),)), Vesting((Grant(1, 2, 3), Grant(2, 3, 4)))),
}


@pytest.fixture(scope="module")
def world() -> World:
    return busy_world(60)


@pytest.fixture(scope="module")
def taken(world: World) -> Snapshot:
    return snapshot_of(world.chain)


def assembly_of(world: World, taken: Snapshot) -> Assembly:
    return Assembly(world.genesis, taken.manifest)


def test_every_kind_of_entry_is_read_back() -> None:
    assert set(KINDS.values()) == set(get_args(Entry)), "each class has the first byte of its keys"
    assert set(ENTRIES) == set(KINDS)
    for first, entries in ENTRIES.items():
        for entry in entries:
            found = decode_entry(first + K, entry.encoded)
            assert (type(found), found) == (KINDS[first], entry)
    with pytest.raises(DecodeError, match="such a key"):
        decode_entry(b"z" + K, Account().encoded)
    with pytest.raises(DecodeError):
        decode_entry(b"j" + K, pack((*unpack(ENTRIES[b"j"][0].encoded, 1000)[:12], 9, 0, 0)))  # type: ignore[index]


def test_an_entry_that_would_be_encoded_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Account, "encoded", b"another")
    with pytest.raises(DecodeError, match="not the encoding"):
        decode_entry(b"a" + K, pack((1, 2)))


def test_a_state_is_read_back_equal_in_every_respect(world: World, taken: Snapshot) -> None:
    state, found = taken.state, rebuilt(world, taken)
    assert found.root() == state.root()
    assert (found.block_id, found.height, found.slot) == (state.block_id, state.height, state.slot)
    assert found.weight == state.weight == world.chain.header(state.block_id).weight > 0
    assert (found.tables, found.randomness, found.books) == (state.tables, state.randomness, state.books)
    assert found.finality == state.finality
    assert len(found.finality.branch) > 20
    assert sum(map(len, found.finality.tallies.values())) > 0
    assert found.finality.epochs > 0
    assert found.due == state.due != ()
    assert list(buckets.walk(found.tree)) == list(buckets.walk(state.tree))
    kinds = {key[:1] for key, _ in buckets.walk(state.tree)}
    assert kinds == set(KINDS), "the state of this test has every kind of entry"
    assert found.supply_ok()


def test_the_root_covers_branch_and_weight(taken: Snapshot) -> None:
    finality = taken.state.finality
    (slot, _), *rest = finality.branch
    assert replace(finality, branch=((slot, K), *rest)).hash != finality.hash
    assert replace(finality, branch=((slot + 1, finality.branch[0][1]), *rest)).hash != finality.hash
    manifest = taken.manifest
    heavier = replace(manifest, place=replace(manifest.place, weight=manifest.place.weight + 1))
    assert heavier.root != manifest.root


def test_runs_are_cut_by_size_and_each_is_checked_alone(
    world: World, taken: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "RUN_BYTES", 800)
    runs = list(taken.runs())
    assert len(runs) > 8
    big = max(
        len(bucket.entries) and sum(len(e.encoded) for e in bucket.entries)
        for bucket in buckets.leaves(taken.state.tree)
    )
    assert all(len(run) <= 800 + big for run in runs)
    for run in reversed(runs):  # in any order, by anybody
        first = unpack(run, len(run))[0]  # type: ignore[index]
        assert assembly_of(world, taken).take_run(run, first, BUCKETS - first) >= 1  # type: ignore[arg-type, operator]
    assert rebuilt(world, taken).root() == taken.state.root()


def test_a_state_too_large_for_its_parts_has_no_snapshot(
    taken: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "MAX_PART_BYTES", len(taken.finality) - 1)
    with pytest.raises(ChainError, match="too large"):
        Snapshot(taken.state, taken.manifest.sealed)
    monkeypatch.setattr(snapshot, "MAX_PART_BYTES", 10)
    with pytest.raises(ChainError, match="too large"):
        taken.run(0, BUCKETS)


def changed(value: Any) -> Any:
    """Another value of the same shape."""
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    if isinstance(value, int):
        return value + 1
    if isinstance(value, tuple):
        return (changed(value[0]), *value[1:])
    name = dataclasses.fields(value)[0].name
    return replace(value, **{name: changed(getattr(value, name))})


def test_false_snapshot(world: World, taken: Snapshot) -> None:
    """Whatever is changed in any part, it is not under the trusted root, or not after the trusted block."""
    manifest, root = taken.manifest, taken.state.root()
    for field in dataclasses.fields(Manifest):
        if field.name in ("size", "sealed"):
            continue
        false = replace(manifest, **{field.name: changed(getattr(manifest, field.name))})
        with pytest.raises(InvalidSnapshot):
            Manifest.decode(false.encoded).check(world.genesis, root)
    richer = Draft(taken.state)
    richer.credit(world.users[0].public, 10**15)
    place = snapshot.Place(taken.state.height, taken.state.slot, taken.state.weight)
    state = taken.state
    false_state = richer.seal(state.block_id, place, state.randomness, state.finality, state.tables)
    false = Snapshot(false_state, manifest.sealed)
    with pytest.raises(InvalidSnapshot, match="not under that state root"):
        false.manifest.check(world.genesis, root)
    index = buckets.bucket_of(account_key(world.users[0].public))
    with pytest.raises(InvalidSnapshot, match=f"bucket {index}"):
        assembly_of(world, taken).take_run(false.run(index, 1), index, 1)


def test_false_tables_and_finality(world: World, taken: Snapshot) -> None:
    tables, finality = taken.state.tables, taken.state.finality
    doubled = replace(tables, ratings=(*tables.ratings, (10**6, tables.latest)))
    with pytest.raises(InvalidSnapshot, match="weight tables"):
        assembly_of(world, taken).take_tables(pack(fields.to_item(doubled)))
    other: list[Finality] = [
        replace(finality, branch=finality.branch[1:]),
        replace(finality, tallies={}),
        replace(finality, epochs=finality.epochs + 1),
        replace(finality, justified=finality.justified[:1]),
    ]
    for false in other:
        with pytest.raises(InvalidSnapshot, match="finality"):
            assembly_of(world, taken).take_finality(pack(fields.to_item(false, without=("params",))))


def test_the_same_bytes_cut_otherwise_are_another_finality(world: World, taken: Snapshot) -> None:
    """Branch and voters are joined under the hash: one longer id must not stand for two."""
    finality = taken.state.finality
    (slot, one), (next_slot, other), *rest = finality.branch
    joined = replace(finality, branch=((slot, one + next_slot.to_bytes(8, "big") + other), *rest))
    assert joined.hash == finality.hash
    link, voters = max(finality.tallies.items(), key=lambda item: len(item[1]))
    first, second, *others = sorted(voters)
    merged = replace(finality, tallies={**finality.tallies, link: frozenset([first + second, *others])})
    assert merged.hash == finality.hash
    for false in (joined, merged):
        with pytest.raises(InvalidSnapshot, match="finality"):
            assembly_of(world, taken).take_finality(pack(fields.to_item(false, without=("params",))))


def test_a_manifest_belongs_to_a_sealed_block(world: World, taken: Snapshot) -> None:
    manifest = taken.manifest
    sealed = manifest.sealed
    other = next(
        block for block in world.chain.ancestors(world.chain.head.id) if block.height > sealed.height
    )
    cases = {
        "after its block": replace(manifest, sealed=other.sealed),
        "nobody sealed": replace(manifest, sealed=replace(sealed, seal=bytes(64))),
        "another chain": replace(manifest, chain_id=K),
    }
    for message, false in cases.items():
        with pytest.raises(InvalidSnapshot, match=message):
            false.check(world.genesis, taken.state.root())
    with pytest.raises(InvalidSnapshot, match="nobody sealed"):
        replace(manifest, sealed=replace(sealed, path=sealed.path[::-1])).check(
            world.genesis, taken.state.root()
        )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda run: (run[0] + 1, run[1]),
        lambda run: (run[0], ()),
        lambda run: (run[0], (*run[1], ())),
        lambda run: (run[0], run[1][1:]),
    ],
)
def test_a_run_is_the_one_that_was_asked_for(
    world: World, taken: Snapshot, wrong: Callable[[Any], Any]
) -> None:
    run = unpack(taken.run(0, BUCKETS - 1), 10**6)
    assembly = assembly_of(world, taken)
    with pytest.raises(InvalidSnapshot):
        assembly.take_run(pack(wrong(run)), 0, BUCKETS - 1)
    assert not assembly.complete
    assert assembly.take_run(pack(run), 0, BUCKETS - 1) == BUCKETS - 1


def test_a_state_with_a_part_missing_is_not_put_together(world: World, taken: Snapshot) -> None:
    assembly = assembly_of(world, taken)
    assembly.take_finality(taken.finality)
    assembly.take_tables(taken.tables)
    assert not assembly.complete
    with pytest.raises(ChainError, match="missing"):
        assembly.state()


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_garbage_is_refused_and_nothing_else_happens(
    world: World, taken: Snapshot, data: st.DataObject
) -> None:
    assembly = assembly_of(world, taken)
    part, take = data.draw(
        st.sampled_from(
            [
                (taken.manifest.encoded[-400:], Manifest.decode),
                (taken.manifest.encoded, Manifest.decode),
                (taken.tables, assembly.take_tables),
                (taken.finality, assembly.take_finality),
                (taken.run(0, 500), lambda raw: assembly.take_run(raw, 0, 500)),
            ]
        )
    )
    at = data.draw(st.integers(0, len(part) - 1))
    end = data.draw(st.sampled_from([at, at + 1, len(part)]))
    garbage = part[:at] + data.draw(st.binary(max_size=40)) + part[end:]
    if garbage == part:
        return
    try:
        found = take(garbage)
        if isinstance(found, Manifest):
            found.check(world.genesis, taken.state.root())
            assert replace(found, size=taken.manifest.size) == taken.manifest
        else:
            assert take in (assembly.take_tables, assembly.take_finality), "a run has one encoding"
    except InvalidError:
        pass


def test_a_trusted_point_is_what_people_copy() -> None:
    point = TrustedPoint(7, K, bytes(32))
    assert TrustedPoint.parse(f" {point}\n") == point
    for text in (
        "",
        "7",
        f"0:{K.hex()}:{K.hex()}",
        f"7:{K.hex()}",
        f"7:{K.hex()}:00",
        f"x:{K.hex()}:{K.hex()}",
    ):
        with pytest.raises(ChainError):
            TrustedPoint.parse(text)


def test_a_first_block_has_a_snapshot_too() -> None:
    world = World()
    world.mine()
    assert rebuilt(world, snapshot_of(world.chain, world.chain.head.id)).root() == world.state.root()
    assert genesis_state(world.genesis).weight == 0
