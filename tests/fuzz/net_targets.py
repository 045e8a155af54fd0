"""Messages between nodes: plain values, the training protocol, presence and data-set announcements."""

from __future__ import annotations

from typing import Any

import trio

from chain.rating.items import ProvenLeaf
from chain.transactions import Register
from p2pml.net import discovery, presence, rating_exchange, train, wire
from p2pml.net.errors import Malformed, RemoteError
from p2pml.net.gossip import Verdict
from p2pml.net.sponsor_exchange import Answer, Outcome, Question
from tests.fuzz.runner import decoder
from tests.net.test_train_messages import MESSAGES

PLAIN: tuple[Any, ...] = (
    None,
    True,
    -1,
    2**64 - 1,
    1.5,
    float("nan"),
    "",
    "text",
    b"",
    bytes(32),
    [],
    {},
    {1: [2]},
    [[]] * 20,
)
TOKENS = (
    *map(wire.encode, PLAIN),
    b"\xc1",
    b"\xc7\x00\x01",
    b"\xd4\xff\x00",
    b"\xdd\xff\xff\xff\xff",
    b"\x91" * 600,
)
PEER = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
ANNOUNCEMENT = [1, PEER, ["/ip4/198.18.0.1/tcp/4001"], bytes(32), bytes(32), True, False, 100, 7, "node"]
WISH = Register(bytes(32), b"\x01" * 32, "late", 10**8, 1, b"\x02" * 64)
QUESTION = Question(bytes(32), bytes(16), WISH).to_message()
SPONSORS = [Answer(Outcome.TAKEN, bytes(32), 7).to_message(), Answer(Outcome.EXPIRED).to_message()]
LEAF_QUESTION = rating_exchange.Question(64, bytes(32), (0, 7, 300)).encode()
LEAVES = [ProvenLeaf(index, 0, index, bytes(32), (b"\x01" * 32,) * 2) for index in range(2)]
LEAF_ANSWER = rating_exchange.encode_leaves(LEAVES)
ROWS = [["digits", bytes(20), 1000], ["more", b"\x01" * 20, 5]]
ANSWER = [["digits", bytes(20), 1000, [[PEER, ["/ip4/198.18.0.1/tcp/4001"]]]]]


def plain(data: bytes) -> None:
    value = wire.decode(data)
    assert repr(wire.decode(wire.encode(value))) == repr(value)  # NaN is not equal to itself


def training(data: bytes) -> None:
    message = train.decode(wire.decode(data))
    train.encode(message)


def announcement(data: bytes) -> None:
    async def judge() -> Any:
        return presence._validate(data)

    if trio.run(judge) is not Verdict.ACCEPT:
        raise Malformed("rejected")


def listings(data: bytes) -> None:
    assert 0 < len(discovery._parse_announcement(data)) <= discovery.PER_MESSAGE


def answer(data: bytes) -> None:
    discovery._parse_answer(wire.decode(data), "digits")


def question(data: bytes) -> None:
    found = Question.from_message(wire.decode(data))
    assert Question.from_message(found.to_message()) == found


def sponsors_answer(data: bytes) -> None:
    found = Answer.from_message(wire.decode(data))
    assert Answer.from_message(found.to_message()) == found


def leaf_question(data: bytes) -> None:
    found = rating_exchange.Question.decode(data)
    assert found.encode() == data


def leaf_answer(data: bytes) -> None:
    assert rating_exchange.encode_leaves(rating_exchange.decode_leaves(data)) == data


def _encoded(messages: list[Any]) -> list[bytes]:
    return [wire.encode(message) for message in messages]


TRAINING = [data for data in _encoded([train.encode(message) for message in MESSAGES]) if len(data) < 4096]

TARGETS = (
    decoder("plain messages", plain, Malformed, [*TRAINING[:3], *TOKENS[:14]], tokens=TOKENS),
    decoder("training messages", training, Malformed, TRAINING, tokens=TOKENS),
    decoder(
        "presence announcements", announcement, Malformed, _encoded([ANNOUNCEMENT]), tokens=TOKENS, runs=1500
    ),
    decoder("data-set announcements", listings, RemoteError, _encoded([[1, ROWS]]), tokens=TOKENS),
    decoder("data-set answers", answer, RemoteError, _encoded([ANSWER]), tokens=TOKENS),
    decoder("newcomers' questions", question, Malformed, _encoded([QUESTION]), tokens=TOKENS),
    decoder("auditors' questions", leaf_question, Malformed, [LEAF_QUESTION], tokens=TOKENS),
    decoder("subjects' answers", leaf_answer, Malformed, [LEAF_ANSWER], tokens=TOKENS),
    decoder("sponsors' answers", sponsors_answer, Malformed, _encoded(SPONSORS), tokens=TOKENS),
)
