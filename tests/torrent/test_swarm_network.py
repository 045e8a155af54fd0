"""Whole swarms on a virtual clock: links with latency, uplinks with a rate, bytes counted per source."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from torrent.config import SwarmConfig
from torrent.events import ReadBlock

Make = Callable[..., Any]
MIB = 1 << 20


def leechers(net: Any) -> list[Any]:
    return [node for name, node in net.nodes.items() if name.startswith("l")]


def all_done(net: Any) -> Callable[[], bool]:
    return lambda: all(node.swarm.complete for node in leechers(net))


def stored(net: Any, node: Any) -> bytes:
    return b"".join(node.store[index] for index in sorted(node.store))


PLAIN, FAST, EXTENDED, BOTH = (
    SwarmConfig(fast=fast, extended=extended) for extended in (False, True) for fast in (False, True)
)
NAMED = {"plain": PLAIN, "fast": FAST, "extended": EXTENDED, "both": BOTH}


@pytest.mark.parametrize("ours", NAMED)
@pytest.mark.parametrize("theirs", NAMED)
def test_old_and_new_peers_understand_each_other(net: Make, content: Make, ours: str, theirs: str) -> None:
    """Each side with both extensions, one of them or none: an extension is on where both have it."""
    n = net(content(MIB // 2, piece_length=65_536))
    left = n.add("l1", range(4), config=NAMED[ours])
    right = n.add("l2", range(4, 8), config=NAMED[theirs])
    n.mesh()
    n.run(all_done(n))
    for node, other in ((left, "l2"), (right, "l1")):
        assert stored(n, node) == n.content.stream
        stats = node.swarm.stats(n.now)
        assert stats.sources == {other: MIB // 4}
        assert stats.wasted == 0
        both_extended = NAMED[ours].extended and NAMED[theirs].extended
        assert [peer.client for peer in stats.peers] == ["p2pml 0.1" if both_extended else ""]
    n.at(n.now + 5, lambda: None)
    n.run(lambda: n.now >= n.nodes["l1"].done_at + 4)
    parted = [drop.reason for node in (left, right) for drop in node.dropped]
    assert set(parted) == ({"both are seeds"} if both_extended else set())


@pytest.mark.slow
def test_a_mixed_swarm_with_scarce_slots(net: Make, content: Make) -> None:
    """Chokes all the time, with requests on their way: rejected for some, dropped for the others."""
    times = {"upload_slots": 2, "optimistic_slots": 1, "choke_round": 0.5, "optimistic_round": 1.5}
    n = net(content(2 * MIB, piece_length=65_536))
    kinds = [
        SwarmConfig(fast=fast, extended=extended, **times)
        for fast in (False, True)
        for extended in (False, True)
    ]
    n.add("seed", range(32), rate=MIB, config=kinds[3])
    for number in range(8):
        n.add(f"l{number}", rate=MIB, config=kinds[number % 4])
    n.mesh()
    n.run(all_done(n), limit=60.0)
    for node in leechers(n):
        assert stored(n, node) == n.content.stream
        assert {drop.reason for drop in node.dropped} <= {"both are seeds"}


def test_one_seed_one_leecher(net: Make, content: Make) -> None:
    n = net(content(MIB))
    n.add("seed", range(32), rate=MIB)
    leecher = n.add("l1")
    n.mesh()
    took = n.run(all_done(n))
    assert stored(n, leecher) == n.content.stream
    assert leecher.swarm.stats(n.now).sources == {"seed": MIB}
    assert took < 1.15  # 1 s is the uplink's bound


@pytest.mark.slow
@pytest.mark.parametrize("rate", [MIB, MIB // 8])
@pytest.mark.parametrize("round_trip", [0.5, 1.0, 2.0])
def test_a_long_line_is_full(net: Make, content: Make, rate: int, round_trip: float) -> None:
    """After ten round trips for the start, what comes in is what the line can carry, however long it is."""
    n = net(content(40 * rate, piece_length=65_536), latency=round_trip / 2)
    n.add("seed", range(40 * rate // 65_536), rate=rate)
    leecher = n.add("l1")
    n.mesh()

    def received(at: float) -> int:
        n.run(lambda: n.now >= at)
        return sum(map(len, leecher.store.values()))

    before = received(20.0)
    assert received(30.0) - before >= 9.9 * rate


@pytest.mark.slow
def test_a_swarm_shares_the_seeds_uplink(net: Make, content: Make) -> None:
    """Eight leechers on equal uplinks: far faster than the seed alone could be, and fed by each other."""
    n = net(content(4 * MIB, piece_length=65_536))
    n.add("seed", range(64), rate=MIB)
    for number in range(8):
        n.add(f"l{number}", rate=MIB)
    n.mesh()
    took = n.run(all_done(n))
    # fluid bound max(F/u_s, N·F/(u_s + Σu_i)) = max(4, 32/9) s; the seed alone would take 32 s
    assert took < 2.25 * 4
    for node in leechers(n):
        stats = node.swarm.stats(n.now)
        assert stored(n, node) == n.content.stream
        assert sum(stats.sources.values()) == 4 * MIB
        assert len(stats.sources) >= 4
        assert stats.sources.get("seed", 0) < 2 * MIB


@pytest.mark.slow
def test_two_seeds_share_the_work_by_their_speed(net: Make, content: Make) -> None:
    n = net(content(4 * MIB))
    n.add("fast", range(128), rate=3 * MIB)
    n.add("slow", range(128), rate=MIB)
    leecher = n.add("l1")
    n.mesh()
    took = n.run(all_done(n))
    sources = leecher.swarm.stats(n.now).sources
    assert took < 1.3  # 1 s is the bound
    assert 2 < sources["fast"] / sources["slow"] < 4


def test_leechers_that_want_different_files_load_only_those(net: Make, content: Make) -> None:
    sample = content(*[200_000] * 4)
    n = net(sample)
    n.add("seed", range(sample.metainfo.piece_count))
    real = [number for number, file in enumerate(sample.metainfo.files) if not file.pad]
    for number, file in enumerate(real):
        n.add(f"l{number}", wanted=[file])
    n.mesh()
    n.run(all_done(n))
    for number, file in enumerate(real):
        assert set(n.nodes[f"l{number}"].store) == sample.metainfo.pieces_of([file])


@pytest.mark.slow
def test_a_forger_in_the_swarm_is_banned_and_everybody_completes(net: Make, content: Make) -> None:
    def lie(read: ReadBlock, data: bytes) -> bytes:
        return bytes([data[0] ^ 1]) + data[1:]

    n = net(content(2 * MIB))
    n.add("seed", range(64))
    n.add("forger", range(64), lies=lie)
    for number in range(4):
        n.add(f"l{number}")
    n.mesh()
    n.run(all_done(n))
    for node in leechers(n):
        assert stored(n, node) == n.content.stream
        assert node.swarm.banned == {"forger"}
        assert "forger" not in node.swarm.stats(n.now).sources
        assert {drop.peer for drop in node.dropped if drop.banned} == {"forger"}


@pytest.mark.slow
def test_a_forger_that_lies_now_and_then_is_found_out(net: Make, content: Make) -> None:
    """One block in ten is false: pieces mixed from several sources fail until the blame is clear."""
    rng = random.Random(9)

    def lie(read: ReadBlock, data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1]) if rng.random() < 0.1 else data

    n = net(content(4 * MIB, piece_length=131_072))
    n.add("seed", range(32), rate=MIB)
    n.add("forger", range(32), rate=MIB, lies=lie)
    for number in range(3):
        n.add(f"l{number}")
    n.mesh()
    n.run(all_done(n))
    for node in leechers(n):
        assert stored(n, node) == n.content.stream
        assert node.swarm.banned <= {"forger"}
    assert any(node.swarm.banned for node in leechers(n))


@pytest.mark.slow
def test_the_seed_leaves_once_a_copy_is_out(net: Make, content: Make) -> None:
    """Rarest first has spread the pieces: the leechers complete each other."""
    n = net(content(2 * MIB))
    seed = n.add("seed", range(64), rate=MIB)
    for number in range(5):
        n.add(f"l{number}", rate=MIB)
    n.mesh()
    n.run(lambda: len({i for node in leechers(n) for i in node.store}) == 64)
    assert not any(node.swarm.complete for node in leechers(n))
    n.leave("seed")
    n.run(all_done(n))
    assert all(stored(n, node) == n.content.stream for node in leechers(n))
    assert sum(seed.swarm.stats(n.now).served.values()) < 3 * 2 * MIB  # five copies without sharing


@pytest.mark.slow
def test_churn(net: Make, content: Make) -> None:
    """Links are cut and made again all the time."""
    n = net(content(2 * MIB))
    n.add("seed", range(64), rate=MIB)
    for number in range(4):
        n.add(f"l{number}", rate=MIB)
    n.mesh()
    names = list(n.nodes)
    rng = random.Random(4)

    def shake() -> None:
        a, b = rng.sample(names, 2)
        n.cut(a, b)
        n.at(n.now + 0.3, lambda: None if b in n.nodes[a].swarm.peers else n.connect(a, b))
        n.at(n.now + 0.2, shake)

    n.at(0.2, shake)
    n.run(all_done(n), limit=60.0)
    assert all(stored(n, node) == n.content.stream for node in leechers(n))


def test_a_frozen_seed_is_worked_around(net: Make, content: Make) -> None:
    """A peer that stops sending without leaving costs its requests' time-out, no more."""
    n = net(content(2 * MIB))
    n.add("frozen", range(64), rate=MIB)
    n.add("seed", range(64), rate=MIB)
    n.add("l1")
    n.mesh()
    n.at(0.3, lambda: setattr(n.nodes["frozen"], "rate", 1.0))
    took = n.run(all_done(n))
    assert took < 10  # the endgame does not even wait for the time-out


@pytest.mark.slow
def test_tit_for_tat_favours_those_that_upload(net: Make, content: Make) -> None:
    """With scarce slots a leecher that gives nothing finishes last."""
    config = SwarmConfig(upload_slots=2, optimistic_slots=1, choke_round=1.0, optimistic_round=3.0)
    n = net(content(4 * MIB, piece_length=65_536))
    n.add("seed", range(64), rate=MIB // 2, config=config)
    for number in range(5):
        n.add(f"l{number}", rate=MIB // 2, config=config)
    n.add("l-free-rider", rate=2_000, config=config)
    n.mesh()
    n.run(all_done(n), limit=300.0)
    times = sorted((node.done_at, node.name) for node in leechers(n))
    assert times[-1][1] == "l-free-rider"


@pytest.mark.slow
def test_thirty_peers_with_half_the_links(net: Make, content: Make) -> None:
    n = net(content(2 * MIB))
    n.add("seed", range(64), rate=2 * MIB)
    for number in range(30):
        n.add(f"l{number}", rate=MIB)
    rng = random.Random(2)
    names = list(n.nodes)
    for position, a in enumerate(names):
        for b in names[position + 1 :]:
            if rng.random() < 0.5 or b == names[position + 1]:
                n.connect(a, b)
    took = n.run(all_done(n), limit=120.0)
    assert took < 3 * (30 * 2 / 32)
    assert all(stored(n, node) == n.content.stream for node in leechers(n))
