"""A late node among peers that are slow, silent, gone or lying: it catches up, and blames the right ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain import body_window, sync, sync_download
from chain.body_window import LATE_S
from chain.forkchoice import Chain
from chain.sync import (
    BodyList,
    GetBodies,
    GetHeaders,
    GetStatus,
    HeaderList,
    PeerLeft,
    Response,
    Status,
)
from chain.sync_server import answer
from tests.chain.conftest import World
from tests.chain.slow_net import Server, SlowNet

LENGTH = 60


@cache
def long_world() -> World:
    """A chain of which every third body is empty."""
    world = World()
    for number in range(LENGTH):
        world.mine(*([world.transfer(0, 1, 1)] if number % 3 else []))
    return world


def honest(world: World, lowest: int = 1) -> Server:
    return lambda request: answer(request, world.chain, lambda block_id: None, lowest)


def but(world: World, kind: type, reply: Callable[[Any], Response | bytes | None]) -> Server:
    """Honest but for one kind of request."""
    good = honest(world)
    return lambda request: reply(request) if isinstance(request, kind) else good(request)


def poisoner(world: World) -> Server:
    """Its headers are true; its bodies belong to no header that was asked for."""
    wrong = world.build([world.transfer(1, 2, 7)]).body.encode()
    return but(world, GetBodies, lambda request: BodyList((wrong,) * len(request.ids)))


def withholder(world: World) -> Server:
    return but(world, GetBodies, lambda request: BodyList((b"",) * len(request.ids)))


def silent(world: World) -> Server:
    return but(world, GetBodies, lambda request: None)


def mute(world: World) -> Server:
    return but(world, object, lambda request: None)


def stingy(world: World) -> Server:
    """One body at a time."""
    good = honest(world)
    return but(world, GetBodies, lambda request: good(GetBodies(request.ids[:1])))


def behind(world: World) -> Server:
    """It has the first blocks only."""
    short = Chain(world.genesis)
    for block in list(world.chain.ancestors(world.chain.head.id))[::-1][:10]:
        short.on_block(block, 2**60)
    return lambda request: answer(request, short, lambda block_id: None)


def forger(world: World) -> Server:
    """A heavier claim, with a second block that does not agree with the state after the first."""
    first, second = list(world.chain.ancestors(world.chain.head.id))[:-3:-1]
    bad = world.reseal(second, leaf0={"parent_state_root": bytes(32)})

    def reply(request: sync.Request) -> Response | None:
        match request:
            case GetStatus():
                return Status(world.genesis.chain_id, bad.block_id, LENGTH, 2**100)
            case GetHeaders():
                return HeaderList((first.sealed.encode(), bad.sealed.encode()))
            case GetBodies():
                return BodyList((bad.body.encode(),))
        return None

    return reply


GOOD = {"honest": honest, "stingy": stingy, "behind": behind}
LAME = {"silent": silent, "mute": mute, "withholder": withholder}
LIARS = {"poisoner": poisoner, "forger": forger}
KINDS: dict[str, Callable[[World], Server]] = {**GOOD, **LAME, **LIARS}

peers = st.lists(
    st.tuples(
        st.sampled_from(sorted(KINDS)),
        st.floats(0.01, 20.0),  # seconds for an answer
        st.floats(0.0, 30.0) | st.none(),  # when it leaves
        st.floats(1.0, 60.0),  # for how long
    ),
    max_size=5,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(others=peers, seed=st.integers(0, 1000), delay=st.floats(0.01, 5.0))
def test_whatever_the_others_do_one_honest_peer_is_enough(others: Any, seed: int, delay: float) -> None:
    world = long_world()
    net = SlowNet(Chain(world.genesis), seed)
    for number, (kind, slowness, _, _) in enumerate(others):
        net.join(f"{kind} {number}", KINDS[kind](world), slowness)
    net.join("the good one", honest(world), delay)
    moves = []
    for number, (kind, slowness, leaves, stays_away) in enumerate(others):
        if leaves is not None:
            moves += [(leaves, "leave", number, kind, slowness)]
            moves += [(leaves + stays_away, "join", number, kind, slowness)]
    for at, move, number, kind, slowness in sorted(moves):
        net.run(at)
        if move == "leave":
            net.leave(f"{kind} {number}")
        else:
            net.join(f"{kind} {number}", KINDS[kind](world), slowness)
    net.run(900)
    assert net.chain.head == world.chain.head
    blamed = {name.split()[0] for name in net.distrusted}
    assert blamed <= {"poisoner", "forger", "withholder"}, net.distrusted
    assert "withholder" not in {
        name.split()[0] for name, why in net.distrusted.items() if "cannot show" not in why
    }


def test_bodies_come_from_all_who_have_them_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_window, "MAX_BODIES", 4)
    world = long_world()
    net = SlowNet(Chain(world.genesis))
    for name in "abc":
        net.join(name, honest(world))
    net.run(5)
    assert net.chain.head == world.chain.head
    ids = [i for request in net.requests(GetBodies) for i in request.ids]  # type: ignore[attr-defined]
    assert len(ids) == len(set(ids)) == LENGTH - LENGTH // 3
    assert all(len(net.requests(GetBodies, name)) >= 3 for name in "abc")
    assert len(net.requests(GetHeaders)) == 1


def test_a_slow_peer_is_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_window, "MAX_BODIES", 4)
    world = long_world()
    net = SlowNet(Chain(world.genesis))
    net.join("slow", honest(world), 14.0)
    net.run(14.5)
    assert net.requests(GetHeaders, "slow"), "it leads"
    net.join("quick", honest(world))
    net.run(14 + 14 + 2 * LATE_S)
    assert net.chain.head == world.chain.head
    assert net.distrusted == {}


@pytest.mark.parametrize("leader_first", [True, False])
def test_a_false_body_is_blamed_on_who_sent_it_not_on_who_led(
    leader_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_window, "MAX_BODIES", 4)
    world = long_world()
    net = SlowNet(Chain(world.genesis))
    joins: list[tuple[str, Server]] = [("good", honest(world)), ("bad", poisoner(world))]
    for name, server in joins if leader_first else joins[::-1]:
        net.join(name, server)
        net.run(net.now + 0.01)
    net.run(30)
    assert net.chain.head == world.chain.head
    assert net.distrusted == {"bad": "a wrong answer: a body that is not the one under the header's root"}


def test_an_invalid_block_is_blamed_on_who_led_even_if_another_sent_the_body() -> None:
    """The forger has left by then."""
    world = long_world()
    lies = forger(world)
    body = lies(GetBodies((bytes(32),)))
    net = SlowNet(Chain(world.genesis))
    net.join("forger", lambda request: None if isinstance(request, GetBodies) else lies(request))
    net.join("dupe", lambda r: body if isinstance(r, GetBodies) else honest(world)(r))
    net.run(0.2)
    net.tell(PeerLeft("forger"))
    net.run(60)
    assert "parent's state root" in net.distrusted["forger"]
    assert "dupe" not in net.distrusted or "not the one under" in net.distrusted["dupe"]


def test_headers_do_not_run_ahead_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_download, "MAX_AHEAD", 20)
    monkeypatch.setattr(sync_download, "MAX_HEADERS", 10)
    world = long_world()
    net = SlowNet(Chain(world.genesis))
    net.join("a", _ten_headers(world, gives_bodies=False))
    net.run(10)
    assert len(net.requests(GetHeaders)) == 2
    net = SlowNet(Chain(world.genesis))
    net.join("a", _ten_headers(world, gives_bodies=True))
    net.run(10)
    assert net.chain.head == world.chain.head
    assert len(net.requests(GetHeaders)) == LENGTH // 10


def _ten_headers(world: World, gives_bodies: bool) -> Server:
    good = honest(world)

    def reply(request: sync.Request) -> Response | bytes | None:
        if isinstance(request, GetBodies) and not gives_bodies:
            return None
        found = good(request)
        return HeaderList(found.headers[:10]) if isinstance(found, HeaderList) else found

    return reply


def test_the_leader_takes_another_branch_in_the_middle() -> None:
    """Heads move while headers are on their way: the download goes on from where both chains part."""
    old, new = World(), World()
    for world in (old, new):
        for _ in range(5):
            world.mine(world.transfer(0, 1, 1))
    for _ in range(30):
        old.mine(old.transfer(0, 1, 1))
    slot = new.state.slot + 2
    for _ in range(40):
        new.mine(new.transfer(0, 1, 2), slot=slot if new.drawn(slot) else new.slot_with(0, slot))
        slot = new.state.slot + 1
    asked: list[GetHeaders] = []
    first, second = _ten_headers(old, gives_bodies=True), honest(new)

    def reply(request: sync.Request) -> Response | bytes | None:
        if isinstance(request, GetHeaders):
            asked.append(request)
        if isinstance(request, GetBodies):
            mine = first(request)
            return mine if isinstance(mine, BodyList) and mine.bodies[0] else second(request)
        return first(request) if len(asked) <= 2 else second(request)

    net = SlowNet(Chain(old.genesis))
    net.join("a", reply)
    net.run(5)
    assert len(asked) >= 3
    net.run(60)
    assert net.chain.head == new.chain.head
    assert net.distrusted == {}


def test_the_leader_leaves_and_its_headers_still_serve() -> None:
    world = long_world()
    net = SlowNet(Chain(world.genesis))
    net.join("leader", silent(world), 0.01)
    net.run(0.015)
    net.join("other", honest(world))
    net.run(0.1)
    net.leave("leader")
    net.run(2)
    assert net.chain.head == world.chain.head
    assert net.requests(GetHeaders, "other") == []


def test_a_pruned_peer_leads_and_another_gives_the_old_bodies() -> None:
    world = long_world()
    net = SlowNet(Chain(world.genesis))
    net.join("pruned", lambda r: _pruned(world, r), 0.01)
    net.run(90)
    assert net.chain.head.height == 1, "the first body is empty, the next one nobody serves"
    assert net.distrusted == {}
    net.join("archive", honest(world))
    net.run(150)
    assert net.chain.head == world.chain.head
    asked = [i for request in net.requests(GetBodies, "pruned") for i in request.ids]  # type: ignore[attr-defined]
    assert all((world.chain.height_of(block_id) or 0) >= 40 for block_id in asked)


def _pruned(world: World, request: sync.Request) -> Response:
    return answer(request, world.chain, lambda block_id: None, lowest=40)
