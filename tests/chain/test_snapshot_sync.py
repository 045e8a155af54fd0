"""Fetching a trusted state: peers of all kinds on a virtual clock."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count

import pytest

from chain import snapshot, snapshot_sync
from chain.codec import pack
from chain.errors import DecodeError
from chain.snapshot import Snapshot, TrustedPoint
from chain.snapshot_messages import (
    MAX_REQUEST_BYTES,
    GetFinality,
    GetManifest,
    GetRun,
    GetTables,
    answer_part,
    decode_part_request,
    encode_part_request,
)
from chain.snapshot_sync import PATIENCE, Ask, Blame, Done, Effect, Failed, GaveUp, SnapshotSync
from chain.sync_events import TIMEOUT, Answered, PeerJoined, PeerLeft
from tests.chain.conftest import World
from tests.chain.snapshots import busy_world, snapshot_of

Behaviour = Callable[[bytes], bytes | None]
"""The answer to a request; None for silence. Raising ConnectionError breaks off."""


@pytest.fixture(scope="module")
def world() -> World:
    return busy_world(20)


@pytest.fixture(scope="module")
def taken(world: World) -> Snapshot:
    return snapshot_of(world.chain)


@pytest.fixture(autouse=True)
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many runs from a small state."""
    monkeypatch.setattr(snapshot, "RUN_BYTES", 1000)
    monkeypatch.setattr(snapshot_sync, "RUN_BYTES", 1000)


@dataclass
class Net:
    """Peers with behaviours and latencies in front of one machine."""

    machine: SnapshotSync
    peers: dict[str, Behaviour]
    now: float = 0.0
    asked: Counter[str] = field(default_factory=Counter)
    blamed: dict[str, str] = field(default_factory=dict)
    most: Counter[str] = field(default_factory=Counter)

    def run(self, leave_at: tuple[float, str] | None = None) -> Done | GaveUp:
        order, open_ = count(), Counter[str]()
        queue: list[tuple[float, int, Answered | Failed | PeerLeft | PeerJoined]] = []
        for peer in self.peers:
            heapq.heappush(queue, (0.0, next(order), PeerJoined(peer)))
        if leave_at is not None:
            heapq.heappush(queue, (leave_at[0], next(order), PeerLeft(leave_at[1])))
        for _ in range(20_000):
            deadline = self.machine.deadline()
            assert deadline is not None
            if queue and queue[0][0] <= deadline:
                self.now, _, event = heapq.heappop(queue)
                if isinstance(event, Answered | Failed):
                    open_[event.peer] -= 1
                effects = self.machine.receive(event, self.now)
            else:
                self.now = max(self.now, deadline)
                effects = self.machine.tick(self.now)
            end = self._carry_out(effects, queue, order, open_)
            if end is not None:
                return end
        raise AssertionError("the machine does not come to an end")

    def _carry_out(
        self, effects: list[Effect], queue: list[object], order: count[int], open_: Counter[str]
    ) -> Done | GaveUp | None:
        for effect in effects:
            match effect:
                case Ask(peer, request_id, data):
                    self.asked[peer] += 1
                    open_[peer] += 1
                    self.most[peer] = max(self.most[peer], open_[peer])
                    try:
                        answer = self.peers[peer](data)
                    except ConnectionError:
                        heapq.heappush(queue, (self.now + 0.1, next(order), Failed(peer, request_id)))  # type: ignore[misc]
                        continue
                    if answer is None:
                        open_[peer] -= 1
                        continue
                    heapq.heappush(queue, (self.now + 0.1, next(order), Answered(peer, request_id, answer)))  # type: ignore[misc]
                case Blame(peer, reason):
                    self.blamed[peer] = reason
                case Done() | GaveUp():
                    return effect
        return None


def honest(taken: Snapshot) -> Behaviour:
    def answer(data: bytes) -> bytes:
        return answer_part(
            decode_part_request(data), lambda i: taken if i == taken.manifest.sealed.block_id else None
        )

    return answer


def silent(data: bytes) -> None:
    return None


def ignorant(data: bytes) -> bytes:
    return b""


def broken(data: bytes) -> bytes:
    raise ConnectionError


def lying_about(kind: type, taken: Snapshot, wrong: Callable[[bytes], bytes]) -> Behaviour:
    """Honest, but for one kind of part."""

    def answer(data: bytes) -> bytes:
        request = decode_part_request(data)
        found = answer_part(request, lambda _: taken)
        return wrong(found) if isinstance(request, kind) else found

    return answer


def flipped(data: bytes) -> bytes:
    at = len(data) * 2 // 3
    return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]


def machine(world: World, taken: Snapshot, seed: int = 1, **changes: object) -> SnapshotSync:
    return SnapshotSync(world.genesis, replace(taken.manifest.point, **changes), random.Random(seed), 0.0)  # type: ignore[arg-type]


def test_one_honest_peer_is_enough(world: World, taken: Snapshot) -> None:
    net = Net(machine(world, taken), {"a": honest(taken)})
    end = net.run()
    assert isinstance(end, Done)
    assert (end.state.root(), end.sealed) == (taken.state.root(), taken.manifest.sealed)
    assert net.asked["a"] > 10
    assert net.most["a"] == snapshot_sync.PER_PEER
    assert net.machine.deadline() is None


def test_several_share_the_work(world: World, taken: Snapshot) -> None:
    net = Net(machine(world, taken), {name: honest(taken) for name in "abcd"})
    assert isinstance(net.run(), Done)
    assert min(net.asked.values()) > 3


@pytest.mark.parametrize("kind", [GetManifest, GetTables, GetFinality, GetRun])
@pytest.mark.parametrize("seed", range(4))
def test_a_liar_is_blamed_and_the_rest_comes_from_others(
    world: World, taken: Snapshot, kind: type, seed: int
) -> None:
    liars = {f"liar{i}": lying_about(kind, taken, flipped) for i in range(3)}
    net = Net(machine(world, taken, seed), {**liars, "a": honest(taken)})
    end = net.run()
    assert isinstance(end, Done)
    assert end.state.root() == taken.state.root()
    assert set(net.blamed) <= set(liars)
    assert net.blamed or kind is not GetRun
    if kind is GetManifest:
        assert net.blamed == {}, "a manifest of another root may be right, and the person wrong"
        assert all(net.asked[liar] == 1 for liar in liars)


def test_silence_refusal_and_ignorance_are_waited_out_without_blame(world: World, taken: Snapshot) -> None:
    others: dict[str, Behaviour] = {"s": silent, "i": ignorant, "b": broken}
    net = Net(machine(world, taken), {**others, "a": honest(taken)})
    assert isinstance(net.run(), Done)
    assert net.blamed == {}
    assert net.now < 4 * TIMEOUT


def test_what_a_peer_had_under_way_is_asked_of_others_when_it_leaves(world: World, taken: Snapshot) -> None:
    calls = count()

    def soon_silent(data: bytes) -> bytes | None:
        return honest(taken)(data) if next(calls) < 3 else None

    net = Net(machine(world, taken), {"quitter": soon_silent, "a": honest(taken)})
    assert isinstance(net.run(leave_at=(0.35, "quitter")), Done)
    assert net.now < TIMEOUT, "nobody waited for it"


@pytest.mark.parametrize("changes", [{"root": bytes(32)}, {"height": 3}])
def test_who_disagrees_with_the_person_is_not_blamed(
    world: World, taken: Snapshot, changes: dict[str, object]
) -> None:
    net = Net(machine(world, taken, **changes), {"a": honest(taken), "b": honest(taken), "i": ignorant})
    end = net.run()
    assert isinstance(end, GaveUp)
    assert "2 peers: has that block with another height or state root" in end.reason
    assert "1 peer: does not have it" in end.reason
    assert net.blamed == {}
    assert net.now == pytest.approx(PATIENCE)


def test_a_manifest_of_another_block_is_a_lie(world: World, taken: Snapshot) -> None:
    other = snapshot_of(world.chain, world.chain.head.id)

    def stale(data: bytes) -> bytes:
        return other.manifest.encoded

    net = Net(machine(world, taken), {"a": stale})
    assert isinstance(net.run(), GaveUp)
    assert "another block" in net.blamed["a"]


def test_a_hint_that_lies_costs_requests_only(world: World, taken: Snapshot) -> None:
    for size in (0, 2**63):
        false = replace(taken.manifest, size=size).encoded
        liar = lying_about(GetManifest, taken, lambda _, false=false: false)  # type: ignore[misc]
        assert isinstance(Net(machine(world, taken), {"a": liar}).run(), Done)


def test_alone_it_gives_up(world: World, taken: Snapshot) -> None:
    end = Net(machine(world, taken), {}).run()
    assert isinstance(end, GaveUp)
    assert end.reason == "no peer is connected"


def test_answers_that_were_not_asked_for_change_nothing(world: World, taken: Snapshot) -> None:
    it = machine(world, taken)
    it.receive(PeerJoined("a"), 0.0)
    assert it.receive(Answered("a", 99, b"x"), 1.0) == []
    assert it.receive(Answered("b", 1, taken.manifest.encoded), 1.0) == []
    (effect,) = [e for e in it.receive(Answered("a", 1, b"\xc1"), 1.0) if isinstance(e, Blame)]
    assert effect.peer == "a"
    assert it.receive(PeerJoined("a"), 2.0) == [], "a liar that comes again is asked nothing"


@pytest.mark.parametrize(
    "request_",
    [GetManifest(bytes(32)), GetTables(bytes(32)), GetFinality(bytes(32)), GetRun(bytes(32), 4095, 1)],
)
def test_requests_are_read_back(request_: GetManifest | GetTables | GetFinality | GetRun) -> None:
    data = encode_part_request(request_)
    assert len(data) <= MAX_REQUEST_BYTES
    assert decode_part_request(data) == request_


WRONG: list[tuple[int | bytes, ...]] = [
    (0,),
    (4, bytes(32)),
    (0, bytes(31)),
    (0, bytes(32), 1),
    (3, bytes(32), 0),
    (3, bytes(32), 4096, 1),
    (3, bytes(32), 4095, 2),
    (3, bytes(32), 0, 0),
]


@pytest.mark.parametrize("rest", WRONG)
def test_requests_that_are_none(rest: tuple[int | bytes, ...]) -> None:
    with pytest.raises(DecodeError):
        decode_part_request(pack(rest))


def test_a_point_orders_by_height() -> None:
    assert TrustedPoint(1, bytes(32), bytes(32)) < TrustedPoint(2, bytes(32), bytes(32))
