"""Where shards go: two holders each, even load, little movement."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pml.training.placement import Owned, Placement


def led(placement: Placement, clients: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    for client in range(clients):
        leader = placement.holders(client)[0]
        counts[leader] = counts.get(leader, 0) + 1
    return counts


@given(
    clients=st.integers(1, 9),
    history=st.lists(st.sets(st.sampled_from("abcdef"), min_size=1), min_size=1, max_size=5),
)
def test_every_shard_has_two_live_holders_and_load_is_even(clients: int, history: list[set[str]]) -> None:
    placement = Placement(clients)
    for present in history:
        peers = sorted(present)
        placement.update(peers)
        for client in range(clients):
            holders = placement.holders(client)
            assert len(set(holders)) == len(holders) == min(2, len(peers))
            assert set(holders) <= present
        counts = [led(placement, clients).get(peer, 0) for peer in peers]
        assert max(counts) - min(counts) <= 1


def test_a_peer_that_comes_back_gets_its_shards_back() -> None:
    placement = Placement(4)
    placement.update(["a", "b", "c", "d"])
    before = {peer: set(placement.held_by(peer)) for peer in "abcd"}
    leader = placement.holders(1)[0]
    placement.update(sorted(set("abcd") - {leader}))
    placement.update(["a", "b", "c", "d"])
    assert set(placement.held_by(leader)) & before[leader]
    assert led(placement, 4) == dict.fromkeys("abcd", 1)


def test_the_trained_clients_come_first() -> None:
    placement = Placement(3)
    placement.update(["a", "b", "c"])
    for peer in "abc":
        first, *rest = placement.held_by(peer)
        assert placement.holders(first)[0] == peer
        assert all(placement.holders(client)[0] != peer for client in rest)


def test_nobody_there_is_no_error() -> None:
    placement = Placement(2)
    placement.update(["a"])
    placement.update([])
    assert placement.holders(0) == ()


def test_what_is_owned_moves_nowhere() -> None:
    placement = Owned(("a", "b"))
    for present in (["a", "b", "c"], ["c"], []):
        placement.update(present)
        assert [placement.holders(client) for client in range(2)] == [("a",), ("b",)]
        assert [placement.held_by(peer) for peer in "abc"] == [(0,), (1,), ()]
