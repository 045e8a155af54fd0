"""What validators send each other in a rating window: its signed items, rulings, questions for leaves."""

from __future__ import annotations

from typing import Any

from chain.codec import unpack
from chain.errors import DecodeError
from chain.rating.items import (
    MAX_RATING_ITEM_BYTES,
    Accusation,
    ProvenLeaf,
    Ruling,
    decode_point,
    read_rating_item,
)
from p2pml.net.errors import Malformed
from p2pml.net.rating_exchange import Question, decode_leaves, encode_leaves
from tests.chain.test_decoders import points
from tests.fuzz.chain_targets import TOKENS, canonical
from tests.fuzz.runner import Target, decoder


def _read(data: bytes) -> Any:
    return read_rating_item(unpack(data, MAX_RATING_ITEM_BYTES))


def _targets() -> tuple[Target, ...]:
    given = points()
    accusation = next(point for point in given if isinstance(point, Accusation))
    question = Question(24, bytes(32), (0, 7))
    leaf = ProvenLeaf(1, 2, 7, bytes(32), (bytes(32),))
    return (
        decoder(
            "rating items",
            canonical(decode_point, lambda point: bytes(point.encoded)),
            DecodeError,
            [point.encoded for point in given],
            tokens=TOKENS,
        ),
        decoder(
            "rulings",
            canonical(_read, lambda item: bytes(item.encoded)),
            DecodeError,
            [Ruling(accusation, True).encoded],
            tokens=TOKENS,
        ),
        decoder(
            "questions for leaves",
            canonical(Question.decode, lambda asked: bytes(asked.encode())),
            Malformed,
            [question.encode()],
            tokens=TOKENS,
        ),
        decoder(
            "leaves",
            canonical(decode_leaves, encode_leaves),
            Malformed,
            [encode_leaves([leaf]), encode_leaves([])],
            tokens=TOKENS,
        ),
    )


TARGETS = _targets()
