"""Who proposes and what a vote weighs: the rules that `params.selection` chooses from, in one place.

`rating`: weights are ratings, every rank is drawn at random in proportion to them.
`richest`: weights are balances in base units, rank r of every slot is the r-th richest account. It is the
rule of the project's first prototype, kept so that the two can be compared on one workload.

Either way the weights are a table that lags behind (`chain.tables`), a convicted account weighs nothing, and
the header's target, votes and rewards go by the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chain import lottery
from chain.entries import Validator
from chain.genesis import Genesis
from chain.weights import Weight, WeightTable

if TYPE_CHECKING:
    from chain.draft import Draft
    from chain.state import State

Draw = Callable[[bytes, int, int, WeightTable], Weight]
"""(seed, slot, rank, table) -> whose rank it is."""
Changes = Callable[["Draft", Mapping[bytes, Validator], bool], Mapping[bytes, Weight]]
"""(draft after a block, entries that the block changed, whether it is the first of its epoch) -> weights that
are not what they were; 0 for none."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to choose.

    Args:
        draw: see Draw.
        founders: the first weight table.
        changes: see Changes.
    """

    draw: Draw
    founders: Callable[[Genesis], WeightTable]
    changes: Changes


def _by_rating(draft: Draft, changed: Mapping[bytes, Validator], border: bool) -> Mapping[bytes, Weight]:
    """Ratings change with any block."""
    return {public: Weight(public, entry.vrf_public, entry.rating) for public, entry in changed.items()}


def _by_balance(draft: Draft, changed: Mapping[bytes, Validator], border: bool) -> Mapping[bytes, Weight]:
    """Balances change all the time, so they are read once an epoch, of those that are registered; only a
    conviction does not wait.
    """
    if not border:
        return {p: Weight(p, entry.vrf_public, 0) for p, entry in changed.items() if entry.convicted}
    found = {}
    for public in draft.roll.accounts:
        entry = draft.validator(public)
        if entry is not None:
            balance = 0 if entry.convicted else draft.account(public).balance
            found[public] = Weight(public, entry.vrf_public, balance)
    return found


RULES: dict[str, Rule] = {
    "rating": Rule(lottery.draw, WeightTable.of, _by_rating),
    "richest": Rule(lottery.richest, WeightTable.of_balances, _by_balance),
}


def draw(state: State, slot: int, rank: int) -> Weight:
    """Whose rank of a slot it is, after this state."""
    rule = RULES[state.genesis.params.selection]
    return rule.draw(state.seed_at(slot), slot, rank, state.table_at(slot))


def rank_of(public: bytes, state: State, slot: int, ranks: int) -> int | None:
    """The rank, below `ranks`, in which `public` may propose in `slot` after this state; None for none."""
    seed, table = state.seed_at(slot), state.table_at(slot)
    rule = RULES[state.genesis.params.selection]
    return next((rank for rank in range(ranks) if rule.draw(seed, slot, rank, table).public == public), None)
