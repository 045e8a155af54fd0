"""The event heap, the links and the faults, with nodes that only count."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from p2pml.scenario.links import Link
from p2pml.sim.heap import EventHeap
from p2pml.sim.network import RETRANSMIT_S, Network
from p2pml.sim.world import InvariantViolated, Send, World


class Echo:
    """Notes what arrives and when; answers `ping`; ticks every second when asked to."""

    def __init__(self, greets: Sequence[str] = (), ticks: bool = False) -> None:
        self.got: list[tuple[float, str, bytes]] = []
        self.ticked: list[float] = []
        self._greets = greets
        self._next = 1.0 if ticks else None

    def start(self, now: float) -> list[Send]:
        return [Send(peer, b"ping") for peer in self._greets]

    def receive(self, source: str, payload: bytes, now: float) -> list[Send]:
        self.got.append((now, source, payload))
        return [Send(source, b"pong")] if payload == b"ping" else []

    def tick(self, now: float) -> list[Send]:
        self.ticked.append(now)
        self._next = now + 1.0
        return []

    def deadline(self) -> float | None:
        return self._next

    def digest(self) -> bytes:
        return bytes([len(self.got) % 256])


def world_of(
    *, seed: int = 1, link: Link | None = None, ticks: bool = False
) -> tuple[World, Callable[[str], Echo]]:
    def make(name: str, rng: random.Random) -> Echo:
        return Echo(["b"] if name == "a" else [], ticks)

    world = World(seed, ["a", "b"], make)
    for name in ("a", "b"):
        world.network.links[name] = link or Link(delay_ms=100)

    def node(name: str) -> Echo:
        actor = world.actors[name]
        assert isinstance(actor, Echo)
        return actor

    return world, node


def test_actions_run_in_order_of_time_then_of_scheduling() -> None:
    heap, done = EventHeap(), list[str]()
    for when, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "late")):
        heap.at(when, lambda name=name: done.append(name))  # type: ignore[misc]
    heap.cancel(heap.at(1.5, lambda: done.append("cancelled")))
    while heap.step(5.0):
        pass
    assert done == ["a", "b", "c"]
    assert heap.now == 5.0


def test_a_round_trip_takes_both_delays() -> None:
    world, node = world_of()
    world.run(1.0)
    assert node("b").got == [(pytest.approx(0.1), "a", b"ping")]
    assert node("a").got == [(pytest.approx(0.2), "b", b"pong")]


def test_the_slower_line_sets_the_rate_and_arrivals_queue_in_their_order() -> None:
    network = Network(random.Random(1), links={"fast": Link(), "slow": Link(rate=80_000), "far": Link()})
    assert network.arrival("slow", "far", 1000, 0.0) == pytest.approx(0.1)
    assert network.arrival("slow", "far", 1000, 0.0) == pytest.approx(0.2)
    assert network.received("slow", 1000, 5.0) == pytest.approx(5.1)
    assert network.received("slow", 1000, 5.0) == pytest.approx(5.2)
    assert network.received("fast", 1000, 5.0) == 5.0


def test_jitter_never_reorders_a_pair() -> None:
    network = Network(random.Random(1), links={"b": Link(delay_ms=50, jitter_ms=50)})
    times = [network.arrival("a", "b", 100, now / 1000) for now in range(200)]
    assert times == sorted(times)  # type: ignore[type-var]
    assert len(set(times)) > 20


@pytest.mark.parametrize("reliable", [True, False])
def test_loss_is_late_on_a_stream_and_gone_without_one(reliable: bool) -> None:
    network = Network(random.Random(1), reliable=reliable, links={"b": Link(loss=0.25)})
    times = [network.arrival("a", "b", 100, float(now)) for now in range(1000)]
    late = [t - now for now, t in enumerate(times) if t is not None and t > now]
    assert len([t for t in times if t is None]) == pytest.approx(0 if reliable else 250, abs=60)
    assert len(late) == pytest.approx(250 if reliable else 0, abs=60)
    assert all(extra == pytest.approx(RETRANSMIT_S) for extra in late)


def test_a_partition_cuts_and_heals() -> None:
    network = Network(random.Random(1))
    network.partition([["a", "b"], ["c"]])
    assert network.reaches("a", "b")
    assert not network.reaches("a", "c")
    assert not network.reaches("x", "y")
    network.heal()
    assert network.reaches("a", "c")


def test_a_crashed_node_hears_nothing_and_a_new_disk_forgets() -> None:
    world, node = world_of()
    world.run(1.0)
    old = node("b")
    world.crash("b")
    world.send("a", "b", b"lost")
    world.run(1.0)
    assert len(old.got) == 1
    world.restart("b")
    assert node("b") is old
    world.crash("b")
    world.restart("b", disk=False)
    assert node("b") is not old


def test_a_paused_node_does_later_what_it_missed() -> None:
    world, node = world_of(ticks=True)
    world.run(0.05)
    world.pause("b")
    world.run(4.0)
    assert node("b").got == []
    assert node("b").ticked == []
    world.resume("b")
    assert node("b").got == [(pytest.approx(4.05), "a", b"ping")]
    assert node("b").ticked == [pytest.approx(4.05)]
    world.run(1.2)
    assert len(node("b").ticked) == 2


def test_a_slow_node_sends_late() -> None:
    world, node = world_of()
    world.slow("b", 3.0)
    world.run(5.0)
    assert node("a").got[0][0] == pytest.approx(3.2)


def test_the_trace_tells_runs_apart() -> None:
    jitter = Link(delay_ms=50, jitter_ms=20)
    traces = [world_of(seed=seed, link=jitter)[0].run(2.0).trace for seed in (1, 1, 2)]
    assert traces[0] == traces[1] != traces[2]


def test_a_violation_names_seed_time_and_event() -> None:
    def never(name: str) -> None:
        assert name != "b", "b acted"

    world = World(77, ["a", "b"], lambda name, rng: Echo(["b"] if name == "a" else []), [never])
    with pytest.raises(InvariantViolated, match=r"seed 77, t=0\.000 s, event 2 \(start → b\): b acted"):
        world.run(1.0)


def test_an_exception_in_a_core_is_a_violation() -> None:
    class Fragile(Echo):
        def receive(self, source: str, payload: bytes, now: float) -> list[Send]:
            raise KeyError(payload)

    world = World(3, ["a", "b"], lambda name, rng: Fragile(["b"] if name == "a" else []))
    with pytest.raises(InvariantViolated, match=r"seed 3, .*KeyError escaped"):
        world.run(1.0)


def test_a_deadline_that_stays_in_the_past_is_a_violation() -> None:
    class Stuck(Echo):
        def tick(self, now: float) -> list[Send]:
            return []

    world = World(4, ["a"], lambda name, rng: Stuck(ticks=True))
    with pytest.raises(InvariantViolated, match="its deadline stays in the past"):
        world.run(2.0)
