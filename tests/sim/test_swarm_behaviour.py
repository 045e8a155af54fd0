"""What the data layer's rules are for, shown on whole swarms in virtual time.

The trials are in `swarm_trials`; `python -m tests.bench.swarm` prints their figures over any number of seeds.
"""

from __future__ import annotations

import statistics

import pytest

from tests.sim import swarm_trials as trials

CHUNK = 25
"""Seeds of one parametrised test: about four seconds."""


@pytest.mark.slow
def test_rarest_first_keeps_two_copies_where_a_random_picker_does_not() -> None:
    seeds = range(1, 5)
    assert min(trials.least_copies(seed) for seed in seeds) >= 2
    chance = [trials.least_copies(seed, trials.RANDOM_PICKER) for seed in seeds]
    assert sum(copies <= 1 for copies in chance) >= 0.3 * len(seeds)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_free_rider_takes_half_as_long_again_and_yet_finishes() -> None:
    """It lives on about twenty optimistic turns, so a single run is much luck."""
    runs = [trials.free_riding(seed) for seed in range(1, 4)]
    assert statistics.median(riding.rider / riding.median for riding in runs) >= 1.5
    assert all(riding.rider > riding.median for riding in runs)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_twenty_waiting_peers_have_equal_optimistic_shares(seed: int) -> None:
    shares = trials.optimistic_shares(seed)
    assert min(shares) >= 0.8
    assert max(shares) <= 1.2


@pytest.mark.slow
def test_the_endgame_halves_the_last_two_percent() -> None:
    seeds = range(1, 8)
    ours = [trials.last_pieces(seed) for seed in seeds]
    none = [trials.last_pieces(seed, trials.NO_ENDGAME) for seed in seeds]
    assert statistics.median(ours) <= 0.5 * statistics.median(none)


def judged(seed: int, leechers: int) -> None:
    found = trials.poisoning(seed, leechers)
    assert max(found.bad, default=0) <= 3
    assert found.unbanned == 0
    assert found.wronged == 0


@pytest.mark.parametrize("seed", range(1, 37))
def test_one_poisoner_among_ten_sources_is_banned_within_three_pieces(seed: int) -> None:
    judged(seed, 1)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, 201, CHUNK))  # `tests.bench.swarm` has a thousand
def test_one_poisoner_among_ten_peers_is_banned_by_all_within_three_pieces(first: int) -> None:
    for seed in range(first, first + CHUNK):
        judged(seed, 8)
