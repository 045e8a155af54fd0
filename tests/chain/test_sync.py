"""Catching up: with honest peers, behind a fork, and among liars, all on a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from chain import sync, sync_server
from chain.errors import DecodeError, FutureBlock, InvalidBlock, StaleBlock, UnknownParent
from chain.forkchoice import Chain, HeadChanged
from chain.sync import (
    Answered,
    Ask,
    BodyList,
    Distrust,
    Failed,
    GetBlock,
    GetBodies,
    GetHeaders,
    GetStatus,
    HeaderList,
    HeadIs,
    Import,
    Imported,
    Missing,
    OneBlock,
    PeerJoined,
    PeerLeft,
    Response,
    Status,
    Sync,
    SyncState,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from chain.sync_messages import MAX_HEADERS
from chain.sync_server import answer
from chain.types import Block

Server = Callable[[sync.Request], Response | bytes | None]


class Pump:
    """The adapter in miniature: peers are functions, a request is answered in its turn."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.machine = Sync(chain.genesis, random.Random(1), lambda: chain)
        self.peers: dict[str, Server] = {}
        self.now = 0.0
        self.asked: list[tuple[str, sync.Request]] = []
        self.distrusted: dict[str, str] = {}
        self.behind: list[int] = []
        self.carry_out(self.machine.receive(self.head(), 0.0))

    def head(self) -> HeadIs:
        head = self.chain.head
        return HeadIs(head.height, head.weight, self.chain.locator(), self.chain.justified.number)

    def join(self, name: str, server: Server) -> None:
        self.peers[name] = server
        self.carry_out(self.machine.receive(PeerJoined(name), self.now))

    def tell(self, event: sync.Event) -> None:
        self.carry_out(self.machine.receive(event, self.now))

    def wait(self, seconds: float) -> None:
        """Let time pass as the adapter's one timer would."""
        end = self.now + seconds
        while (due := self.machine.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.carry_out(self.machine.tick(self.now))
        self.now = end

    def carry_out(self, effects: list[sync.Effect]) -> None:
        work = list(effects)
        while work:
            effect = work.pop(0)
            match effect:
                case Ask():
                    work += self.ask(effect)
                case Import():
                    work += self.take(effect)
                case Distrust():
                    self.distrusted[effect.peer] = effect.reason
                case SyncState():
                    self.behind.append(effect.behind)

    def ask(self, effect: Ask) -> list[sync.Effect]:
        request = decode_request(effect.data)
        self.asked.append((effect.peer, request))
        reply = self.peers[effect.peer](request)
        if reply is None:
            return []
        data = reply if isinstance(reply, bytes) else encode_response(reply)
        return self.machine.receive(Answered(effect.peer, effect.request_id, data), self.now)

    def take(self, effect: Import) -> list[sync.Effect]:
        error = None
        done: list[sync.Effect] = []
        for block in effect.blocks:
            try:
                outcome = self.chain.on_block(block, 2**60)
            except UnknownParent as missing:
                done += self.machine.receive(Missing(effect.peer, missing.parent), self.now)
                break
            except StaleBlock:
                continue
            except (InvalidBlock, FutureBlock) as problem:
                error = str(problem)
                break
            if any(isinstance(item, HeadChanged) for item in outcome):
                done += self.machine.receive(self.head(), self.now)
        return done + self.machine.receive(Imported(effect.batch_id, error), self.now)


def serve(chain: Chain) -> Server:
    return lambda request: answer(request, chain, lambda block_id: None)


def grown(world: Any, count: int) -> Any:
    """Blocks that pay somebody something: bodies that have to be fetched."""
    for _ in range(count):
        world.mine(world.transfer(0, 1, 1))
    return world


@pytest.mark.slow
def test_newcomer_catches_up_in_batches(make_world: Any) -> None:
    world = grown(make_world(), 150)
    pump = Pump(Chain(world.genesis))
    pump.join("a", serve(world.chain))
    assert pump.chain.head == world.chain.head
    assert sum(isinstance(request, GetHeaders) for _, request in pump.asked) == 1, "they end with the claim"
    asked = [request.ids for _, request in pump.asked if isinstance(request, GetBodies)]
    bodies = [block_id for ids in asked for block_id in ids]
    assert len(bodies) == len(set(bodies)), "each body is asked for once"
    assert pump.behind[0] == 150
    assert pump.behind[-1] == 0
    assert pump.distrusted == {}


@pytest.mark.slow
def test_heavier_fork_longer_than_a_batch(make_world: Any) -> None:
    """Our own branch and theirs part at height 3; theirs is 80 blocks long."""
    world = grown(make_world(), 3)
    ours = Chain(world.genesis)
    for block in reversed(list(world.chain.ancestors(world.chain.head.id))):
        ours.on_block(block, 2**60)
    for _ in range(70):
        state = ours.state()
        ours.on_block(world.build(slot=world.slot_with(0, state.slot, state), chain=ours), 2**60)
    slot = world.state.slot + 2
    for _ in range(80):
        world.mine(slot=slot)
        slot = world.state.slot + 1
    assert ours.head.weight < world.chain.head.weight
    pump = Pump(ours)
    pump.join("a", serve(world.chain))
    assert ours.head == world.chain.head
    assert pump.distrusted == {}


def test_synced_peers_are_left_in_peace(world: Any) -> None:
    grown(world, 5)
    pump = Pump(world.chain)
    pump.join("a", serve(world.chain))
    pump.wait(60)
    assert {type(request) for _, request in pump.asked} == {GetStatus}
    assert 6 <= len(pump.asked) <= 8


def test_missing_block_is_fetched_by_id(world: Any) -> None:
    grown(world, 3)
    late = Chain(world.genesis)
    blocks = list(reversed(list(world.chain.ancestors(world.chain.head.id))))
    pump = Pump(late)
    pump.join("a", serve(Chain(world.genesis)))
    pump.peers["a"] = lambda r: None if isinstance(r, GetStatus) else serve(world.chain)(r)
    with pytest.raises(UnknownParent) as caught:
        late.on_block(blocks[2], 2**60)
    pump.tell(Missing("a", caught.value.parent))
    assert late.head == world.chain.head
    fetched = [request for _, request in pump.asked if isinstance(request, GetBlock)]
    assert [request.id for request in fetched] == [blocks[1].block_id, blocks[0].block_id]


def test_silent_peer_rests_and_another_is_asked(make_world: Any) -> None:
    world = grown(make_world(), 20)
    pump = Pump(Chain(world.genesis))
    honest = serve(world.chain)
    pump.join("mute", lambda r: honest(r) if isinstance(r, GetStatus) else None)
    pump.join("good", honest)
    assert pump.chain.head.height == 0
    pump.wait(14)
    assert pump.chain.head.height == 0
    pump.wait(2)
    assert pump.chain.head == world.chain.head
    assert pump.distrusted == {}


def test_peer_that_leaves_in_the_middle(make_world: Any) -> None:
    world = grown(make_world(), 20)
    pump = Pump(Chain(world.genesis))
    honest = serve(world.chain)
    pump.join("a", lambda r: honest(r) if isinstance(r, GetStatus) else None)
    pump.join("b", honest)
    pump.tell(PeerLeft("a"))
    assert pump.chain.head == world.chain.head


def test_failed_request_is_not_counted_twice(make_world: Any) -> None:
    world = grown(make_world(), 2)
    pump = Pump(Chain(world.genesis))
    honest = serve(world.chain)
    ids: list[int] = []
    machine = pump.machine
    effects = machine.receive(PeerJoined("a"), 0.0)
    (ask,) = [e for e in effects if isinstance(e, Ask)]
    status = encode_response(honest(GetStatus()))  # type: ignore[arg-type]
    effects = machine.receive(Answered("a", ask.request_id, status), 0.0)
    ids = [e.request_id for e in effects if isinstance(e, Ask)]
    assert machine.receive(Failed("a", ids[0], "reset"), 1.0) == []
    late = encode_response(honest(GetHeaders((world.genesis.chain_id,))))  # type: ignore[arg-type]
    assert machine.receive(Answered("a", ids[0], late), 2.0) == []
    assert machine.receive(Imported(12345), 2.0) == []


def lies_of_weight(world: Any) -> Server:
    """It claims a weight that it cannot show."""
    honest = serve(world.chain)

    def reply(request: sync.Request) -> Response | bytes | None:
        if isinstance(request, GetStatus):
            return Status(world.genesis.chain_id, b"\x01" * 32, 10**6, 10**9)
        return honest(request)

    return reply


def garbage(world: Any) -> Server:
    return lambda request: b"\xc1garbage"


def other_chain(world: Any) -> Server:
    return lambda request: Status(bytes(32), bytes(32), 10, 10**9)


def wrong_answer(world: Any) -> Server:
    return lambda request: BodyList(())


def chain_of(world: Any) -> list[Block]:
    return list(reversed(list(world.chain.ancestors(world.chain.head.id))))


def claims(
    world: Any, headers: Callable[[], list[bytes]], bodies: Callable[[GetBodies], Response] | None = None
) -> Server:
    """It claims a head far away, and gives these headers; the bodies are those that there are."""
    honest = serve(world.chain)

    def reply(request: sync.Request) -> Response | bytes | None:
        if isinstance(request, GetStatus):
            return Status(world.genesis.chain_id, b"\x01" * 32, 10**6, 10**9)
        if isinstance(request, GetBodies):
            return honest(request) if bodies is None else bodies(request)
        return HeaderList(tuple(headers()))

    return reply


def sealed(*blocks: Block) -> list[bytes]:
    return [block.sealed.encode() for block in blocks]


def broken_links(world: Any) -> Server:
    first, second, third = chain_of(world)[:3]
    return claims(world, lambda: sealed(first, third, second))


def repeats_itself(world: Any) -> Server:
    """Valid headers, always the same."""
    return claims(world, lambda: sealed(*chain_of(world)[:5]))


def headers_from_nowhere(world: Any) -> Server:
    return claims(world, lambda: sealed(chain_of(world)[-1]))


def invalid_block(world: Any) -> Server:
    """Nothing that a header shows is wrong with it."""
    bad = world.reseal(chain_of(world)[0], leaf0={"parent_state_root": bytes(32)})
    return claims(world, lambda: sealed(bad), lambda request: BodyList((bad.body.encode(),)))


def undecodable_header(world: Any) -> Server:
    return claims(world, lambda: [b"\x90"])


def too_many_headers(world: Any) -> Server:
    header = sealed(chain_of(world)[0])
    return claims(world, lambda: header * (MAX_HEADERS + 1))


def poisoned_bodies(world: Any) -> Server:
    """The headers are true, the bodies those of other blocks."""
    others = tuple(block.body.encode() for block in chain_of(world)[::-1])
    chain = sealed(*chain_of(world))
    return claims(world, lambda: chain, lambda request: BodyList(others[: len(request.ids)]))


def too_many_bodies(world: Any) -> Server:
    chain, honest = sealed(*chain_of(world)), serve(world.chain)

    def more(request: GetBodies) -> Response:
        found = honest(request)
        assert isinstance(found, BodyList)
        return BodyList((*found.bodies, b""))

    return claims(world, lambda: chain, more)


def no_bodies(world: Any) -> Server:
    chain = sealed(*chain_of(world))
    return claims(world, lambda: chain, lambda request: BodyList((b"",) * len(request.ids)))


@pytest.mark.parametrize(
    ("liar", "at_once"),
    [
        (lies_of_weight, False),
        (garbage, True),
        (other_chain, True),
        (wrong_answer, True),
        (broken_links, True),
        (repeats_itself, False),
        (headers_from_nowhere, True),
        (invalid_block, True),
        (undecodable_header, True),
        (too_many_headers, True),
        (poisoned_bodies, True),
        (too_many_bodies, True),
        (no_bodies, False),
    ],
)
def test_newcomer_among_liars(make_world: Any, liar: Callable[[Any], Server], at_once: bool) -> None:
    world = grown(make_world(), 12)
    pump = Pump(Chain(world.genesis))
    pump.join("liar", liar(world))
    assert ("liar" in pump.distrusted) == at_once
    pump.join("good", serve(world.chain))
    pump.wait(200)
    assert pump.chain.head == world.chain.head
    assert "liar" in pump.distrusted
    assert "good" not in pump.distrusted
    asked = len([1 for peer, _ in pump.asked if peer == "liar"])
    pump.tell(PeerLeft("liar"))
    pump.join("liar", liar(world))
    assert len([1 for peer, _ in pump.asked if peer == "liar"]) == asked  # reconnecting does not wash it
    assert pump.behind[-1:] in ([], [0])


def test_wrong_single_block_is_a_lie(world: Any) -> None:
    grown(world, 3)
    pump = Pump(Chain(world.genesis))
    other = world.chain.block(world.chain.head.id).encode()
    pump.join("a", lambda r: None if isinstance(r, GetStatus) else OneBlock(other))
    pump.tell(Missing("a", b"\x05" * 32))
    assert "another block" in pump.distrusted["a"]


def test_fetches_are_bounded(world: Any) -> None:
    pump = Pump(world.chain)
    pump.join("a", lambda r: None)
    for number in range(50):
        pump.tell(Missing("a", bytes([number]) * 32))
    assert len([1 for _, request in pump.asked if isinstance(request, GetBlock)]) == 8
    pump.tell(Missing("stranger", bytes(32)))


def test_messages_roundtrip(world: Any) -> None:
    ids = (bytes(32), b"\x01" * 32)
    for request in (GetStatus(), GetHeaders(ids, 7), GetBodies(ids), GetBlock(b"\x02" * 32)):
        assert decode_request(encode_request(request)) == request
    for response in (
        Status(bytes(32), b"\x03" * 32, 9, 2**200, 4, 3),
        HeaderList((b"abc",)),
        BodyList((b"abc", b"")),
        OneBlock(b""),
    ):
        assert decode_response(encode_response(response)) == response
    for bad in (
        b"\x90",
        b"\x91\x05",
        b"\x92\x00\x00",
        b"\x93\x01\x90\x00",
        b"\x93\x01\x90\xcd\x01\x01",
        b"\x97\x00" + (b"\xc4\x20" + bytes(32)) * 2 + b"\x01\xc4\x20" + bytes(32) + b"\x00\x00",
        b"\x01",
    ):
        with pytest.raises(DecodeError):
            decode_request(bad)
        with pytest.raises(DecodeError):
            decode_response(bad)
    for short in (b"\x92\x02\x91\xc4\x01\x00", b"\x92\x03\xc4\x01\x00"):
        with pytest.raises(DecodeError, match="32 bytes"):
            decode_request(short)


def test_server_serves_from_memory_and_from_storage(make_world: Any) -> None:
    world = make_world(keep=5)
    stored = []
    for _ in range(30):
        stored.append(world.mine(world.transfer(0, 1, 1)).encode())
        world.all_vote()
    assert world.chain.block(world.chain.canonical_id(2)) is None, "it is in storage only"
    by_id = {world.chain.canonical_id(i + 1): data for i, data in enumerate(stored)}

    def served(request: sync.Request) -> Response:
        return answer(request, world.chain, by_id.get)

    def headers(blocks: list[bytes]) -> HeaderList:
        return HeaderList(tuple(Block.decode(data).sealed.encode() for data in blocks))

    assert served(GetHeaders((world.genesis.chain_id,), 64)) == headers(stored)
    assert served(GetHeaders(world.chain.locator(), 64)) == headers([])
    assert served(GetHeaders((b"\x07" * 32,), 64)) == headers([])
    assert served(GetHeaders((world.chain.canonical_id(10),), 4)) == headers(stored[10:14])
    old, new = Block.decode(stored[1]), Block.decode(stored[-1])
    asked = (old.block_id, b"\x07" * 32, new.block_id)
    assert served(GetBodies(asked)) == BodyList((old.body.encode(), b"", new.body.encode()))
    damaged = answer(GetBodies((old.block_id,)), world.chain, lambda block_id: b"\x93 damaged")
    assert damaged == BodyList((b"",))
    assert served(GetBlock(old.block_id)) == OneBlock(stored[1])
    assert served(GetBlock(b"\x07" * 32)) == OneBlock(b"")


def test_a_server_bounds_what_it_sends(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = chain_of(grown(world, 6))
    ids = tuple(block.block_id for block in blocks)
    monkeypatch.setattr(sync_server, "HEADERS_BYTES", 2 * len(blocks[0].sealed.encode()) + 10)
    monkeypatch.setattr(sync_server, "BODIES_BYTES", 1)
    served = answer(GetHeaders((world.genesis.chain_id,)), world.chain, lambda block_id: None)
    assert served == HeaderList(tuple(sealed(*blocks[:2])))
    assert answer(GetBodies(ids), world.chain, lambda block_id: None) == BodyList((blocks[0].body.encode(),))
    pump = Pump(Chain(world.genesis))
    pump.join("a", serve(world.chain))
    assert pump.chain.head == world.chain.head, "what did not fit is asked for again"
