"""Withholding at the end of an epoch: what an owner of the last slots gains by keeping VRF outputs back.

The mix at the end of epoch e - 2 is the seed of epoch e. Who owns the last k rank-0 slots of an epoch may
choose among 2^k mixes. `bias` measures what that is worth, on the draw alone, with the core's own
functions; the best choice for one epoch ahead is taken. The published figures of Ethereum's RANDAO are
those of the best strategy for ever: Alpturer and Weinberg, "Optimal RANDAO Manipulation in Ethereum", AFT
2024, doi.org/10.4230/LIPIcs.AFT.2024.10.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import product

from chain import lottery
from chain.weights import Weight, WeightTable

RANDAO = {0.05: 0.05048, 0.10: 0.1019, 0.20: 0.2068}
"""Share of the stake and share of the blocks, as published (see above)."""
MAX_TAIL = 10
"""Longer tails are rare and only their last slots are played."""


@dataclass(frozen=True, slots=True)
class Bias:
    """What tail withholding brought to an adversary.

    Args:
        weight: its share of the rating.
        blocks: its share of all blocks, had it by the draw exactly its share otherwise.
        error: one standard error of `blocks`.
        free: share of the withheld blocks whose slot it kept by the next rank.
        withheld: share of the slots that it withheld.
        epochs: how many were drawn.
    """

    weight: float
    blocks: float
    error: float
    free: float
    withheld: float
    epochs: int


def owners(seed: bytes, slot: int, ranks: int, table: WeightTable) -> tuple[bytes, ...]:
    """The accounts drawn for the ranks of a slot."""
    return tuple(lottery.draw(seed, slot, rank, table).public for rank in range(ranks))


def rank0_count(seed: bytes, slots: range, table: WeightTable, accounts: Collection[bytes]) -> int:
    """In how many of the slots one of the accounts is the first choice."""
    return sum(lottery.draw(seed, slot, 0, table).public in accounts for slot in slots)


def best_reveal(
    mix: bytes, betas: Sequence[bytes], costs: Sequence[int], worth: Callable[[bytes], int]
) -> tuple[bool, ...]:
    """Which of the outputs to reveal, in their order: what is worth most, then what withholds least.

    Args:
        mix: before them.
        betas: the outputs.
        costs: what withholding each costs, in slots.
        worth: of the final mix, in slots.
    """

    def value(reveal: tuple[bool, ...]) -> tuple[int, int]:
        folded, lost = mix, 0
        for shown, beta, cost in zip(reveal, betas, costs, strict=True):
            folded = lottery.next_mix(folded, beta) if shown else folded
            lost += 0 if shown else cost
        return worth(folded) - lost, sum(reveal)

    return max(product((True, False), repeat=len(betas)), key=value)


def bias(seed: int, weight: float, epochs: int, slots_per_epoch: int = 32, ranks: int = 4) -> Bias:
    """Measure over so many epochs, each played from a fresh random mix.

    An epoch's gain is the difference to revealing everything, so that the luck of the draw cancels out.
    """
    rng = random.Random(f"{seed}/tail/{weight}")
    account, table = bytes(32), _table(weight)
    gains: list[int] = []
    withheld = free = 0
    for _ in range(epochs):
        now, mix = rng.randbytes(32), rng.randbytes(32)
        drawn = [owners(now, slot, ranks, table) for slot in range(slots_per_epoch)]
        tail = _tail(drawn, account)
        betas = [rng.randbytes(64) for _ in tail]
        costs = [0 if _fallback_is(each, account) else 1 for each in tail]

        def worth(folded: bytes) -> int:
            later = range(2 * slots_per_epoch, 3 * slots_per_epoch)
            return rank0_count(lottery.epoch_seed(3, folded), later, table, (account,))

        reveal = best_reveal(mix, betas, costs, worth)
        all_shown, shown = mix, mix
        for beta, show in zip(betas, reveal, strict=True):
            all_shown = lottery.next_mix(all_shown, beta)
            shown = lottery.next_mix(shown, beta) if show else shown
        lost = sum(cost for cost, show in zip(costs, reveal, strict=True) if not show)
        gains.append(worth(shown) - worth(all_shown) - lost)
        withheld += len(reveal) - sum(reveal)
        free += sum(not cost and not show for cost, show in zip(costs, reveal, strict=True))
    average = sum(gains) / epochs
    variance = sum((gain - average) ** 2 for gain in gains) / epochs
    return Bias(
        weight=weight,
        blocks=weight + average / slots_per_epoch,
        error=(variance / epochs) ** 0.5 / slots_per_epoch,
        free=free / max(1, withheld),
        withheld=withheld / (epochs * slots_per_epoch),
        epochs=epochs,
    )


def _tail(drawn: Sequence[tuple[bytes, ...]], account: bytes) -> list[tuple[bytes, ...]]:
    tail: list[tuple[bytes, ...]] = []
    for ranks in reversed(drawn):
        if ranks[0] != account or len(tail) == MAX_TAIL:
            break
        tail.insert(0, ranks)
    return tail


def _fallback_is(ranks: tuple[bytes, ...], account: bytes) -> bool:
    """Whether the adversary still has the slot after its rank 0 stayed silent, under another of its keys."""
    return len(ranks) > 1 and ranks[1] == account


def _table(weight: float) -> WeightTable:
    """The adversary and one that stands for everybody else."""
    mine = round(weight * 10_000)
    return WeightTable((Weight(bytes(32), bytes(32), mine), Weight(b"\xff" * 32, bytes(32), 10_000 - mine)))
