"""Comparing pools: what is asked, what is answered, and whom the machine asks when."""

from __future__ import annotations

import random

import pytest

from chain.codec import pack
from chain.crypto import H
from chain.errors import DecodeError
from chain.reconcile import (
    ANSWER_BYTES,
    DISTRUST_S,
    EVERY_S,
    MAX_ANSWER_BYTES,
    MAX_IDS,
    MAX_IN_A_ROW,
    MAX_ITEM_BYTES,
    MAX_ITEMS,
    MAX_QUESTION_BYTES,
    REST_S,
    SOON_S,
    TX,
    Answer,
    Item,
    Question,
    Reconciler,
    answer,
)

SALT = bytes(range(16))


def item(number: int, size: int = 200) -> Item:
    return Item(H("test-item", number.to_bytes(4, "big")), TX, number.to_bytes(size, "big"))


def about(items: list[Item], salt: bytes = SALT) -> Question:
    return Question.decode(Question.about([i.id for i in items], salt).encode())


def numbers(found: Answer) -> list[int]:
    return [int.from_bytes(data, "big") for _, data in Answer.decode(found.encode()).items]


@pytest.mark.parametrize("seed", range(20))
def test_the_answer_is_what_the_asker_lacks(seed: int) -> None:
    rng = random.Random(seed)
    theirs, ours = ([item(i) for i in range(600) if rng.random() < 0.7] for _ in range(2))
    found = answer(about(ours, rng.randbytes(16)), theirs)
    assert not found.more
    have = {i.id for i in ours}
    assert numbers(found) == [int.from_bytes(i.data, "big") for i in theirs if i.id not in have]


def test_a_full_pool_is_compared_by_a_question_within_its_limit() -> None:
    pool = [item(i) for i in range(8192)]
    assert len(about(pool).encode()) <= MAX_QUESTION_BYTES
    assert answer(about(pool), pool).items == ()
    assert len(Question.about((item(i).id for i in range(MAX_IDS + 10)), SALT).short_ids) == MAX_IDS


def test_an_answer_is_bounded_and_says_that_there_is_more() -> None:
    large = [item(i, 8000) for i in range(100)]
    found = answer(about([]), large)
    assert found.more
    assert sum(len(data) for _, data in found.items) <= ANSWER_BYTES
    many = answer(about([]), [item(i, 8) for i in range(MAX_ITEMS + 1)])
    assert (many.more, len(many.items)) == (True, MAX_ITEMS)
    have: list[Item] = []
    while (found := answer(about(have), large)).items:
        have += [large[number] for number in numbers(found)]
        assert len(found.encode()) <= MAX_ANSWER_BYTES
    assert have == large


def test_another_salt_gives_other_short_ids() -> None:
    assert not about([item(1)]).short_ids & about([item(1)], bytes(16)).short_ids


@pytest.mark.parametrize(
    "data",
    [
        b"",
        pack((SALT, b"x" * 5)),
        pack((SALT, b"b" * 6 + b"a" * 6)),
        pack((SALT, b"a" * 12)),
        pack((SALT[:8], b"")),
        pack((SALT, b"a" * (6 * MAX_IDS + 6))),
    ],
    ids=["empty", "odd length", "unsorted", "twice", "short salt", "too many"],
)
def test_a_malformed_question_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Question.decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        pack((2, ())),
        pack((0, ((3, b""),))),
        pack((0, ((TX, bytes(MAX_ITEM_BYTES + 1)),))),
        pack((0, tuple((TX, b"") for _ in range(MAX_ITEMS + 1)))),
        bytes(MAX_ANSWER_BYTES + 1),
    ],
    ids=["garbage", "more than more", "kind", "large item", "many items", "large"],
)
def test_a_malformed_answer_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Answer.decode(data)


# -- the machine -------------------------------------------------------------------------------------------


def machine(*peers: str) -> Reconciler:
    made = Reconciler(random.Random(1))
    for peer in peers:
        made.joined(peer, 0.0)
    return made


def next_ask(machine: Reconciler) -> tuple[str, float]:
    """The next peer to be asked, and when."""
    while True:
        now = machine.deadline()
        assert now is not None
        peer = machine.tick(now)
        if peer is not None:
            return peer, now


def test_each_newcomer_is_asked_at_once_and_then_one_now_and_then() -> None:
    made, asked = machine("a", "b", "c"), list[tuple[str, float]]()
    for _ in range(23):
        asked.append(next_ask(made))
        assert made.tick(10**9) is None  # one at a time
        assert made.deadline() is None
        made.done(asked[-1][0], 0, 0, False, asked[-1][1])
    assert {peer for peer, _ in asked[:3]} == {"a", "b", "c"}
    assert asked[2][1] <= SOON_S
    assert {peer for peer, _ in asked[3:]} == {"a", "b", "c"}
    assert asked[-1][1] == pytest.approx(20 * EVERY_S, rel=0.2)


def test_after_something_new_the_next_question_comes_soon_and_who_has_more_is_asked_at_once() -> None:
    made = machine("a")
    peer, now = next_ask(made)
    for _ in range(MAX_IN_A_ROW):
        made.done(peer, 10, 0, True, now)
        peer, again = next_ask(made)
        assert again == now
    made.done(peer, 10, 0, True, now)  # enough in a row
    _, later = next_ask(made)
    assert 0.8 * SOON_S <= later - now <= 1.2 * SOON_S


@pytest.mark.parametrize(("event", "rest"), [("failed", REST_S), ("useless", REST_S), ("lied", DISTRUST_S)])
def test_who_is_of_no_use_rests(event: str, rest: float) -> None:
    made = machine("a")
    peer, now = next_ask(made)
    if event == "failed":
        made.failed(peer, now)
    elif event == "lied":
        made.lied(peer, now)
    else:
        made.done(peer, 0, 3, True, now)
    _, later = next_ask(made)
    assert later >= now + rest


def test_a_liar_that_reconnects_is_not_asked() -> None:
    made = machine("a")
    peer, now = next_ask(made)
    made.lied(peer, now)
    made.left("a")
    assert made.deadline() is None
    made.joined("a", now + 1)
    _, later = next_ask(made)
    assert later >= now + DISTRUST_S


def test_a_peer_that_leaves_while_it_is_asked_makes_room() -> None:
    made = machine("a", "b")
    peer, now = next_ask(made)
    made.left(peer)
    made.done(peer, 1, 0, True, now)
    assert next_ask(made)[0] != peer
