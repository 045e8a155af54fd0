"""What peers send each other about the chain. Encodings are canonical: what is taken encodes to the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chain import sync_messages as sync
from chain.baseline.trace import Leaf
from chain.codec import pack, unpack
from chain.errors import ChainError, DecodeError
from chain.genesis import Genesis
from chain.header import SealedHeader
from chain.quality import Baseline
from chain.reconcile import TX, Answer, Question
from chain.training_records import Receipt, RoundRecord, settle_receipts
from chain.transactions import DatasetRecord, JobCancel, JobClaim, JobOpen, ParamUpdate, Tx
from chain.types import Block, Body
from chain.votes import Vote
from tests.chain.conftest import JobWorld, World
from tests.fuzz.runner import Target, decoder

TOKENS = tuple(pack(value) for value in (0, 2**64 - 1, b"", bytes(32), "", "text", True, (), (1, 2)))
TOKENS += (
    b"\xdd\x7f\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc0",
    b"\x80",
    b"\xca",
    b"\xd9\x00",
    b"\x91" * 40,
)


def canonical(decode: Callable[[bytes], Any], encode: Callable[[Any], bytes]) -> Callable[[bytes], None]:
    def check(data: bytes) -> None:
        assert encode(decode(data)) == data

    return check


def _encoded(item: Any) -> bytes:
    return bytes(item.encode())


def _targets() -> tuple[Target, ...]:
    world = World()
    jobs = JobWorld(world)
    receipts = [jobs.receipt(0, client) for client in range(2)]
    record = jobs.record(0, receipts)
    user = world.users[1]
    claim = JobClaim(jobs.id, settle_receipts(receipts))
    txs = [
        world.transfer(0, 1, 5),
        jobs.settle(receipts),
        world.tx(user, DatasetRecord("digits", bytes(20), 60, "CC0-1.0", True)),
        world.tx(user, JobOpen(b"\x09" * 20, bytes(32), 3, 10, 10**9, 200)),
        world.tx(user, claim),
        world.tx(user, JobCancel(jobs.id)),
        world.tx(user, ParamUpdate(Baseline(b"\x07" * 20, 1, 2))),
        world.tx(user, ParamUpdate(b"\x08" * 32)),
    ]
    block = world.mine(txs[0], records=[record])
    ids = (bytes(32), b"\x01" * 32)
    requests = (sync.GetStatus(), sync.GetHeaders(ids, 5), sync.GetBodies(ids), sync.GetBlock(ids[1]))
    responses = (
        sync.Status(ids[0], ids[1], 7, 99, 3, 2),
        sync.HeaderList((block.sealed.encode(),)),
        sync.BodyList((block.body.encode(), b"")),
        sync.OneBlock(block.encode()),
    )

    def target(name: str, cls: Any, items: list[Any]) -> Target:
        seeds = [each.encode() for each in items]
        return decoder(name, canonical(cls.decode, _encoded), DecodeError, seeds, tokens=TOKENS)

    return (
        decoder(
            "chain items",
            lambda data: canonical(lambda raw: unpack(raw, 4096), pack)(data),
            DecodeError,
            [pack((1, b"x", "y", True, ((),))), pack(((0,), 2**40))],
            tokens=TOKENS,
        ),
        target("blocks", Block, [block]),
        target("bodies", Body, [block.body]),
        target("sealed headers", SealedHeader, [block.sealed]),
        target("transactions", Tx, txs),
        target("receipts", Receipt, receipts),
        target("round records", RoundRecord, [record]),
        target("leaves of a trace", Leaf, [Leaf(0, 0, bytes(32)), Leaf(2**40, 7, b"\x01" * 32)]),
        decoder(
            "votes",
            canonical(Vote.decode, lambda vote: bytes(vote.encoded)),
            DecodeError,
            [world.vote(0).encoded],
            tokens=TOKENS,
        ),
        target("reconcile questions", Question, [Question.about(ids, bytes(16))]),
        target("reconcile answers", Answer, [Answer(True, ((TX, txs[0].encoded),)), Answer(False, ())]),
        decoder(
            "sync requests",
            canonical(sync.decode_request, sync.encode_request),
            DecodeError,
            map(sync.encode_request, requests),
            tokens=TOKENS,
        ),
        decoder(
            "sync responses",
            canonical(sync.decode_response, sync.encode_response),
            DecodeError,
            map(sync.encode_response, responses),
            tokens=TOKENS,
        ),
        decoder(
            "genesis files", Genesis.from_json, ChainError, [world.genesis.to_json().encode()], runs=10_000
        ),
    )


TARGETS = _targets()
