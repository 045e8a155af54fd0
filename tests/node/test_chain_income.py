"""What blocks issue, told from the blocks, against what the chain's accounts have."""

from __future__ import annotations

from collections import Counter

import pytest

from chain.rating.items import AuditCommit, AuditReveal
from chain.types import Block
from p2pml.node.chain_income import Income, incomes
from tests.chain.conftest import World
from tests.chain.rating_cheats import LazyAuditor
from tests.chain.rating_players import Game
from tests.chain.rating_window import BRIEF, Windows, Work

WEIGHTS = (50, 30, 20)


def audited(windows: int) -> World:
    """A world without fees that lived through so many windows, in which everybody did all that it had to; but
    the last validator audited in the first one only.
    """
    world = World(WEIGHTS, users=0, params=BRIEF)
    alive = Windows(world)
    for number in range(windows):
        window = alive.announce()
        alive.work = {keys.public: Work(world, keys.keypair, window) for keys in world.validators}
        for slot in range(alive.borders.train_end, alive.borders.end + 1):
            owed = alive.owed(slot)
            if number:
                last = world.validators[-1].public
                owed = [
                    item
                    for item in owed
                    if not isinstance(item, (AuditCommit, AuditReveal)) or item.signer != last
                ]
            alive.go(slot, owed)
        assert alive.window.over
    return world


def blocks_of(world: World) -> list[Block]:
    """From height 1 on."""
    return [*reversed(list(world.chain.ancestors(world.chain.head.id)))]


def test_each_account_has_what_the_blocks_issued_to_it() -> None:
    world = audited(2)
    found = list(incomes(world.genesis, blocks_of(world)))
    earned: Counter[bytes] = Counter()
    for income in found:
        for part in (income.proposer, income.votes, income.audits):
            earned.update(part)
    state = world.state
    assert state.standing(world.validators[0].public).outcomes[-1].rating, "the window was not void"
    for keys in world.validators:
        held = state.account(keys.public).balance + state.vesting(keys.public).held
        assert held == earned[keys.public] > 0
    paid = [income for income in found if income.audits]
    assert [len(income.audits) for income in paid] == [len(WEIGHTS), len(WEIGHTS) - 1]
    assert sum(income.issued for income in found) == state.supply().issued


@pytest.mark.slow
def test_nothing_is_issued_to_a_convicted_auditor() -> None:
    game = Game(1, [LazyAuditor]).play()
    assert game.convicted(game.first)
    found = list(incomes(game.world.genesis, blocks_of(game.world)))
    assert sum(income.issued for income in found) == game.state.supply().issued
    last: Income = found[-1]
    assert last.audits
    assert game.first.account not in last.audits
