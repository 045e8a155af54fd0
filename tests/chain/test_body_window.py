"""The window of bodies: who is asked for what, how much at one time, and when somebody else is asked."""

from __future__ import annotations

from typing import Any

import pytest

from chain import body_window
from chain.body_window import IN_FLIGHT, LATE_S, BodyWindow, Source
from chain.errors import InvalidBlock
from chain.types import Block

MAX_BLOCK = 10**6


class Desk:
    """A window over blocks that pay something, and who was asked for which heights."""

    def __init__(self, blocks: list[Block]) -> None:
        self.window = BodyWindow(MAX_BLOCK)
        self.blocks = {block.block_id: block for block in blocks}
        self.asked: list[tuple[str, list[int]]] = []
        self.ids: list[tuple[bytes, ...]] = []
        for block in blocks:
            self.window.add(block.sealed)

    def ask(self, *sources: Source | str, now: float = 0.0) -> None:
        whole = [Source(source, 1, 10**6) if isinstance(source, str) else source for source in sources]
        self.window.ask(whole, now, self.send)

    def send(self, peer: str, ids: tuple[bytes, ...]) -> int:
        self.asked.append((peer, [self.blocks[block_id].height for block_id in ids]))
        self.ids.append(ids)
        return len(self.asked) - 1

    def answer(self, request: int, count: int | None = None) -> None:
        self.window.came(request, [self.blocks[i].body.encode() for i in self.ids[request]][:count])

    def heights(self) -> list[int]:
        return [block.height for block in self.window.take(100, 10**9)]


@pytest.fixture
def blocks(world: Any) -> list[Block]:
    return [world.mine(world.transfer(0, 1, 1)) for _ in range(12)]


@pytest.fixture
def desk(blocks: list[Block], monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(body_window, "MAX_BODIES", 3)
    return Desk(blocks)


def test_batches_go_to_several_peers_and_blocks_come_out_in_order(desk: Desk) -> None:
    desk.ask("a", "b")
    assert desk.asked == [("a", [1, 2, 3]), ("b", [4, 5, 6])]
    desk.answer(1)
    assert desk.heights() == []
    desk.answer(0)
    assert desk.heights() == [1, 2, 3, 4, 5, 6]


def test_who_answers_in_time_is_asked_for_more_at_one_time(desk: Desk) -> None:
    desk.ask("a")
    desk.answer(0)
    desk.ask("a")
    assert [heights for _, heights in desk.asked] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    desk.answer(1)
    desk.answer(2)
    desk.ask("a")
    assert len(desk.asked) == 4
    assert IN_FLIGHT == 3


def test_a_peer_has_no_more_than_its_batches(blocks: list[Block], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_window, "MAX_BODIES", 1)
    desk = Desk(blocks)
    for request in range(5):
        desk.ask("a")
        desk.answer(request)
    desk.ask("a")
    assert len(desk.asked) - 5 == IN_FLIGHT


def test_all_peers_together_have_no_more_than_the_bound(
    blocks: list[Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_window, "MAX_BODIES", 1)
    monkeypatch.setattr(body_window, "MAX_FLIGHT", 5)
    desk = Desk(blocks)
    desk.ask(*map(str, range(9)))
    assert len(desk.asked) == 5


def test_only_who_claims_to_have_a_body_is_asked_for_it(desk: Desk) -> None:
    desk.ask(Source("pruned", 5, 100), Source("short", 1, 2))
    assert desk.asked == [("short", [1, 2]), ("pruned", [5, 6, 7])]


def test_an_answer_may_be_shorter_than_what_was_asked(desk: Desk) -> None:
    desk.ask("a")
    desk.answer(0, 1)
    desk.ask("a")
    assert desk.heights() == [1]
    assert desk.asked[1] == ("a", [2, 3, 4])


def test_who_lacks_one_body_is_not_asked_again(desk: Desk) -> None:
    desk.ask("a")
    desk.window.came(0, [b""])
    desk.ask("a")
    assert len(desk.asked) == 1
    assert desk.window.stuck
    desk.ask("a", "b")
    assert desk.asked[1] == ("b", [1, 2, 3])


@pytest.mark.parametrize("forged", [lambda good: b"\x90", lambda good: good[:-1] + b"\x91\x00"])
def test_a_false_body_is_a_lie_and_what_came_before_it_counts(desk: Desk, forged: Any) -> None:
    desk.ask("a")
    good = [desk.blocks[block_id].body.encode() for block_id in desk.ids[0]]
    with pytest.raises(InvalidBlock, match="not the one under"):
        desk.window.came(0, [good[0], forged(good[1])])
    assert desk.heights() == [1]
    desk.ask("b")
    assert desk.asked[1] == ("b", [2, 3, 4])


@pytest.mark.parametrize("count", [0, 4])
def test_another_number_of_bodies_is_a_lie(desk: Desk, count: int) -> None:
    desk.ask("a")
    with pytest.raises(InvalidBlock, match="bodies where 3"):
        desk.window.came(0, [b""] * count)


def test_a_late_batch_is_asked_of_an_idle_peer_too(desk: Desk) -> None:
    desk.ask("a", "b")
    desk.answer(1)
    assert desk.window.deadline() == LATE_S
    desk.ask("a", "b", now=LATE_S - 0.1)
    assert desk.asked[2:] == [("b", [7, 8, 9]), ("b", [10, 11, 12])]
    desk.answer(2)
    desk.ask("a", "b", now=LATE_S)
    assert len(desk.asked) == 4, "whoever has something under way overtakes nobody"
    desk.answer(3)
    desk.ask("a", "b", now=LATE_S)
    assert desk.asked[4:] == [("b", [1, 2, 3])]
    desk.answer(4)
    assert desk.heights() == list(range(1, 13))
    desk.answer(0)  # it comes in the end, too late to matter
    assert desk.heights() == []


def test_two_are_asked_for_a_body_and_no_third(desk: Desk) -> None:
    desk.ask("a")
    desk.ask("b", now=LATE_S)
    assert desk.asked == [("a", [1, 2, 3]), ("b", [1, 2, 3])]
    desk.ask("c", now=2 * LATE_S)
    assert desk.asked[2:] == [("c", [4, 5, 6])]


def test_who_fails_or_leaves_gives_its_batch_back(desk: Desk) -> None:
    desk.ask("a", "b")
    desk.window.failed(0)
    assert not desk.window.stuck, "b may be asked for the first body when it has answered"
    desk.window.forget("b")
    assert desk.window.stuck
    desk.ask("c")
    assert desk.asked[2] == ("c", [1, 2, 3])
    assert not desk.window.stuck


def test_a_full_window_asks_for_the_first_body_only(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.ask("a", "b")
    desk.answer(1)
    monkeypatch.setattr(body_window, "WINDOW_BYTES", 1)
    desk.ask("b", "c")
    assert len(desk.asked) == 2
    desk.window.failed(0)
    desk.ask("b", "c")
    assert desk.asked[2] == ("b", [1, 2, 3])
    assert len(desk.asked) == 3


def test_blocks_come_out_in_pieces(desk: Desk) -> None:
    desk.ask("a", "b")
    desk.answer(0)
    desk.answer(1)
    assert [block.height for block in desk.window.take(2, 10**9)] == [1, 2]
    assert [block.height for block in desk.window.take(9, 1)] == [3], "one at least, however large"
    assert len(desk.window) == 9


def test_an_empty_body_needs_no_question(world: Any) -> None:
    desk = Desk([world.mine() for _ in range(3)])
    desk.ask("a")
    assert desk.asked == []
    assert desk.heights() == [1, 2, 3]
