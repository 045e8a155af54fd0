"""Whether the draws of a chain follow the weight table of each epoch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from chain import address, lottery
from chain.genesis import Genesis
from chain.state import genesis_state
from chain.transition import apply_block
from chain.types import Block
from chain.weights import WeightTable

Epoch = tuple[bytes, WeightTable]
"""What draws its slots: seed and weight table."""


def epochs_of(genesis: Genesis, blocks: Iterable[Block]) -> dict[int, Epoch]:
    """Seed and table of every epoch that has a block, by executing the chain again; each block's proposer is
    checked against its draw there.
    """
    state, found = genesis_state(genesis), {}
    for block in blocks:
        state = apply_block(state, block)
        found[state.epoch] = (state.seed(state.epoch), state.table(state.epoch))
    return found


def drawn_first(genesis: Genesis, epochs: dict[int, Epoch]) -> Counter[bytes]:
    """How often each account is drawn at rank 0, over all slots of these epochs."""
    size = genesis.params.slots_per_epoch
    return Counter(
        lottery.draw(seed, slot, 0, table).public
        for epoch, (seed, table) in epochs.items()
        for slot in range(epoch * size, (epoch + 1) * size)
    )


def fairness(genesis: Genesis, tables: Sequence[WeightTable], drawn: Counter[bytes]) -> dict[str, Any]:
    """Draws against what the table of each epoch lets expect: the chi-square of the differences under their
    exact covariance, since tables differ from epoch to epoch.
    """
    size = genesis.params.slots_per_epoch
    accounts = sorted({entry.public for table in tables for entry in table.entries})
    place = {public: number for number, public in enumerate(accounts)}
    expected, covariance = np.zeros(len(accounts)), np.zeros((len(accounts), len(accounts)))
    for table in tables:
        share = np.zeros(len(accounts))
        for entry in table.entries:
            share[place[entry.public]] = entry.rating / table.total
        expected += size * share
        covariance += size * (np.diag(share) - np.outer(share, share))
    apart = np.array([drawn[public] for public in accounts]) - expected
    square, degrees = (
        float(apart @ np.linalg.pinv(covariance) @ apart),
        int(np.linalg.matrix_rank(covariance)),
    )
    return {
        "slots": size * len(tables),
        "tables": len({table.hash for table in tables}),
        "drawn": [drawn[public] for public in accounts],
        "expected": [round(float(count), 1) for count in expected],
        "chi_square": round(square, 3),
        "degrees": degrees,
        "p": tail(square, degrees),
        "accounts": [address.encode(public) for public in accounts],
    }


def tail(square: float, degrees: int) -> float:
    """The probability that a chi-square variable with so many degrees of freedom is greater."""
    half = square / 2
    if degrees % 2:
        first, total = math.exp(-half) * math.sqrt(half) / math.gamma(1.5), math.erfc(math.sqrt(half))
        step = 1.5
    else:
        first, total, step = math.exp(-half), 0.0, 1.0
    for number in range(degrees // 2):
        total += first
        first *= half / (number + step)
    return total
