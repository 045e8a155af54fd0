"""Every function of `chain/` that decodes bytes, against random bytes and bent encodings.

The functions are found in the source: whatever calls `codec.unpack` is one. A new one needs an example here.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

import chain
from chain import buckets, reconcile, signing
from chain import sync_messages as sync
from chain.baseline.trace import Leaf
from chain.certificate import Certificate, certify
from chain.codec import pack, unpack
from chain.crypto import Keypair
from chain.entry_kinds import decode_entry
from chain.errors import ChainError, DecodeError, InvalidError
from chain.gossip import Verdict, encode_batch, validate_txs
from chain.header import SealedHeader
from chain.mempool import Mempool
from chain.quality import Baseline
from chain.rating.items import (
    KINDS,
    Accusation,
    Answer,
    AuditCommit,
    AuditReveal,
    Challenge,
    Charge,
    Commit,
    Evaluation,
    Point,
    ProvenLeaf,
    RatingItem,
    Report,
    Reveal,
    Ruling,
    decode_point,
)
from chain.signing import SigningRecord
from chain.snapshot import Assembly, Manifest
from chain.snapshot_messages import GetManifest, GetRun, decode_part_request, encode_part_request
from chain.training_records import Receipt, RoundRecord, SettledReceipt
from chain.transactions import DatasetRecord, JobCancel, JobClaim, JobOpen, ParamUpdate, Register, Tx, TxType
from chain.types import Block, Body
from chain.votes import Vote
from tests.chain.attacks.helpers import twins
from tests.chain.conftest import JobWorld, World
from tests.chain.snapshots import busy_world, snapshot_of
from tests.chain.test_codec import items


@dataclass(frozen=True)
class Decoder:
    """`encode` of what `decode` makes of an example is the example again."""

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    examples: tuple[bytes, ...]


def of(cls: Any, *values: Any) -> Decoder:
    return Decoder(cls.decode, lambda value: bytes(value.encode()), tuple(value.encode() for value in values))


def _transactions(jobs: JobWorld) -> list[Tx]:
    """One of each type."""
    world, user = jobs.world, jobs.world.users[1]
    receipts = [jobs.receipt(0, client) for client in range(2)]
    newcomer = Keypair.from_seed(b"n" * 32)
    wish = Register(newcomer.public, world.validators[0].vrf_public, "new", 5, 1)
    wish = replace(wish, consent=newcomer.sign(wish.signing_bytes(world.genesis.chain_id, user.public)))
    return [
        world.transfer(0, 1, 5),
        world.tx(user, wish),
        world.tx(user, DatasetRecord("digits", bytes(20), 60, "CC0-1.0", True)),
        world.tx(user, JobOpen(b"\x09" * 20, bytes(32), 3, 10, 10**9, 200)),
        world.tx(user, JobClaim(jobs.id, (SettledReceipt(receipts[0]),))),
        world.tx(user, JobCancel(jobs.id)),
        world.tx(user, ParamUpdate(Baseline(b"\x05" * 20, 1, 2))),
        world.tx(jobs.requester, settle_payload(jobs, receipts)),
    ]


def settle_payload(jobs: JobWorld, receipts: list[Receipt]) -> Any:
    return jobs.settle(receipts).payload


def _full_block(jobs: JobWorld) -> Block:
    """With a transaction, a record, votes, and both kinds of evidence."""
    world = jobs.world
    for block in twins(world):
        world.give(block)
    vote = world.vote(1)
    link = replace(vote.link, target=replace(vote.link.target, id=b"\x01" * 32))
    lie = replace(vote, link=link)
    lie = replace(lie, signature=world.validators[1].keypair.sign(lie.signing_bytes(world.genesis.chain_id)))
    world.cast(vote, lie, world.vote(0))
    record = jobs.record(0, [jobs.receipt(0, 0)])
    block = world.mine(world.transfer(2, 1, 5), records=[record])
    assert block.body.votes
    assert len(block.body.evidence) == 2
    return block


@cache
def decoders() -> dict[str, Decoder]:
    """By module and name."""
    jobs = JobWorld(World())
    world = jobs.world
    block, txs = _full_block(jobs), _transactions(jobs)
    receipts = [jobs.receipt(0, client) for client in range(2)]
    vote, ids = world.vote(2), (bytes(32), b"\x01" * 32)
    requests = (sync.GetStatus(), sync.GetHeaders(ids, 5), sync.GetBodies(ids), sync.GetBlock(ids[1]))
    responses = (
        sync.Status(ids[0], ids[1], 7, 99, 3),
        sync.HeaderList((block.sealed.encoded,)),
        sync.BodyList((block.body.encode(), b"")),
        sync.OneBlock(block.encode()),
    )
    record = SigningRecord().sealed(4).voted(vote)
    answers = (reconcile.Answer(False, ((reconcile.TX, txs[0].encoded),)), reconcile.Answer(True, ()))

    def batch(data: bytes) -> bytes:
        """Refused, it tells so and raises nothing; taken, it was the encoding of what came."""
        checked = validate_txs(data, Mempool(), world.state, world.state.slot + 1)
        if checked.verdict is Verdict.REJECT:
            raise DecodeError(checked.reason)
        return data

    return {
        "types.Block.decode": of(Block, block),
        "types.Body.decode": of(Body, block.body, Body(), Body(ratings=_ratings())),
        "header.SealedHeader.decode": of(SealedHeader, block.sealed),
        "transactions.Tx.decode": of(Tx, *txs),
        "training_records.Receipt.decode": of(Receipt, *receipts),
        "training_records.RoundRecord.decode": of(RoundRecord, jobs.record(0, receipts)),
        "votes.Vote.decode": Decoder(Vote.decode, lambda vote: bytes(vote.encoded), (vote.encoded,)),
        "signing.SigningRecord.decode": of(SigningRecord, record, SigningRecord()),
        "signing._unpack_link": Decoder(
            signing._unpack_link, lambda link: signing._pack_link(link) if link else b"",
            (signing._pack_link(vote.link),),
        ),
        "sync_messages.decode_request": Decoder(
            sync.decode_request, sync.encode_request, tuple(map(sync.encode_request, requests))
        ),
        "sync_messages.decode_response": Decoder(
            sync.decode_response, sync.encode_response, tuple(map(sync.encode_response, responses))
        ),
        "reconcile.Question.decode": of(reconcile.Question, reconcile.Question.about(ids, bytes(16))),
        "reconcile.Answer.decode": of(reconcile.Answer, *answers),
        **_of_snapshots(),
        "items.decode_point": Decoder(
            decode_point, lambda point: bytes(point.encoded), tuple(point.encoded for point in points())
        ),
        "trace.Leaf.decode": of(Leaf, Leaf(3, 7, bytes(32))),
        "gossip.validate_txs": Decoder(batch, bytes, (encode_batch([tx.encoded for tx in txs[:3]]),)),
    }  # fmt: skip


def _ratings() -> tuple[RatingItem, ...]:
    """One of each kind that stands in a block."""
    found = [Ruling(point, True) if isinstance(point, Accusation) else point for point in points()]
    return tuple(cast("list[RatingItem]", found))


def points() -> tuple[Point, ...]:
    """One of each kind of rating item, and an accusation."""
    leaf = ProvenLeaf(1, 2, 7, bytes(32), (bytes(32),))
    key, signed = Keypair.from_seed(bytes(32)), {"signature": bytes(64)}
    of_window = (key.public, 24, bytes(32))
    return (
        Commit(*of_window, 20, bytes(32), 2, bytes(32), 5, **signed),
        Reveal(*of_window, (Evaluation(leaf, ((5, 0), (1, 4))),), **signed),
        AuditCommit(*of_window, bytes(32), **signed),
        AuditReveal(*of_window, bytes(32), (Report(bytes(32), bytes(16)),), **signed),
        Challenge(*of_window, bytes(32), (7, 9), **signed),
        Answer(*of_window, bytes(32), (leaf,), **signed),
        Accusation(*of_window, Charge.MARK, bytes(32), (leaf,), 3, bytes(32), **signed),
    )


def _of_snapshots() -> dict[str, Decoder]:
    """What a state is given to others in; the parts of a state, which are only taken, tell what they took."""
    world = busy_world(60)
    snapshot = snapshot_of(world.chain)
    state, assembly = snapshot.state, Assembly(world.genesis, snapshot.manifest)
    key, entry = next(iter(buckets.walk(state.tree)))
    later = [block for block in world.chain.ancestors(world.chain.head.id) if block.height > state.height]
    certificate = certify(state, later[::-1])
    assert certificate is not None
    asked = (GetManifest(state.block_id), GetRun(state.block_id, 3, 5))
    run = snapshot.run(0, 500)

    def taken(take: Callable[[bytes], Any]) -> Callable[[bytes], bytes]:
        def decode(data: bytes) -> bytes:
            take(data)
            return data

        return decode

    return {
        "certificate.Certificate.decode": Decoder(
            Certificate.decode, lambda found: bytes(found.encoded), (certificate.encoded,)
        ),
        "entry_kinds.decode_entry": Decoder(
            lambda data: decode_entry(key, data), lambda found: bytes(found.encoded), (entry.encoded,)
        ),
        "snapshot.Manifest.decode": Decoder(
            Manifest.decode, lambda found: bytes(found.encoded), (snapshot.manifest.encoded,)
        ),
        "snapshot.Assembly.take_tables": Decoder(taken(assembly.take_tables), bytes, (snapshot.tables,)),
        "snapshot.Assembly.take_finality": Decoder(
            taken(assembly.take_finality), bytes, (snapshot.finality,)
        ),
        "snapshot.Assembly.take_run": Decoder(
            taken(lambda data: assembly.take_run(data, 0, 500)), bytes, (run,)
        ),
        "snapshot_messages.decode_part_request": Decoder(
            decode_part_request, encode_part_request, tuple(map(encode_part_request, asked))
        ),
    }


def found_in_the_source() -> set[str]:
    """Functions that call `unpack`, `module.function` or `module.Class.method`."""
    found: set[str] = set()
    for path in sorted(Path(chain.__file__ or "").parent.glob("**/*.py")):

        def visit(node: ast.AST, name: str) -> None:
            for child in ast.iter_child_nodes(node):
                inner = f"{name}.{child.name}" if isinstance(child, ast.ClassDef | ast.FunctionDef) else name
                called = child.func if isinstance(child, ast.Call) else None
                if isinstance(called, ast.Name | ast.Attribute):
                    what = called.id if isinstance(called, ast.Name) else called.attr
                    if what == "unpack":
                        found.add(name)
                visit(child, inner)

        visit(ast.parse(path.read_text()), path.stem)
    return found


NAMES = sorted(found_in_the_source())


def test_there_is_an_example_for_each_decoder() -> None:
    assert len(NAMES) >= 14
    assert set(NAMES) == set(decoders()), "an example for a new decoder belongs into `decoders`"
    types = {Tx.decode(data).type for data in decoders()["transactions.Tx.decode"].examples}
    assert types == set(TxType), "an example for a new transaction belongs into `_transactions`"
    assert {type(point) for point in points()} == set(KINDS.values()), "and one for a new item into `points`"


@pytest.mark.parametrize("name", NAMES)
def test_examples_come_back_byte_by_byte(name: str) -> None:
    decoder = decoders()[name]
    for data in decoder.examples:
        assert decoder.encode(decoder.decode(data)) == data


@st.composite
def bent(draw: Any, example: bytes) -> bytes:
    """The example with some bytes changed, cut out, doubled or put in."""
    data = bytearray(example)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("change", "cut", "double", "insert", "end"))):
            case "change" if place < len(data):
                data[place] ^= draw(st.integers(1, 255))
            case "cut":
                del data[place : place + draw(st.integers(1, 40))]
            case "double":
                data[place:place] = data[place : place + draw(st.integers(1, 40))]
            case "insert":
                data[place:place] = pack(draw(items))
            case _:
                del data[place:]
    return bytes(data)


@st.composite
def refielded(draw: Any, example: bytes) -> bytes:
    """Canonical, but with any item in any place: types, lengths and ranges are wrong."""
    item = draw(st.just(unpack(example, 10**7)))

    def changed(node: Any, depth: int) -> Any:
        if not isinstance(node, tuple) or not node or (depth and draw(st.integers(0, 2)) == 0):
            return draw(items)
        place = draw(st.integers(0, len(node) - 1))
        return (*node[:place], changed(node[place], depth + 1), *node[place + 1 :])

    try:
        return pack(changed(item, 0))
    except ChainError:  # it became too deep
        reject()


def only_invalid_error(decoder: Decoder, data: bytes) -> None:
    with suppress(InvalidError):
        assert decoder.encode(decoder.decode(data)) == data, "two encodings of one object"


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300) | items.map(pack))
def test_random_bytes_raise_invalid_error_only(name: str, data: bytes) -> None:
    only_invalid_error(decoders()[name], data)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_bent_encodings_raise_invalid_error_only(name: str, data: st.DataObject) -> None:
    decoder = decoders()[name]
    example = data.draw(st.sampled_from(decoder.examples))
    only_invalid_error(decoder, data.draw(bent(example) | refielded(example)))
