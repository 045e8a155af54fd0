"""What the blocks of a branch issued, and to whom, by executing it again.

Told from what stands in the blocks (proposers, votes, opened reports of audits) and the weight tables of
their epochs, not from the accounts: the two can be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from chain.genesis import Genesis
from chain.rating.closing import marked
from chain.rating.items import AuditReveal
from chain.rewards import voter_rewards
from chain.state import State, genesis_state
from chain.transition import apply_block
from chain.types import Block


@dataclass(frozen=True, slots=True)
class Income:
    """Base units that a block issued, by 32-byte account: to its proposer, for votes in it, and for audits of
    the rating window that ended in it.
    """

    proposer: dict[bytes, int]
    votes: dict[bytes, int]
    audits: dict[bytes, int]

    @property
    def issued(self) -> int:
        """All together."""
        return sum(sum(part.values()) for part in (self.proposer, self.votes, self.audits))


def incomes(genesis: Genesis, blocks: Iterable[Block]) -> Iterator[Income]:
    """Of each block of a branch that was checked before: heights 1, 2, …

    Raises:
        InvalidBlock: a block breaks a rule.
    """
    params, state = genesis.params, genesis_state(genesis)
    work: Counter[bytes] = Counter()
    for block in blocks:
        before, state = state, apply_block(state, block, verify_seals=False)
        audits: dict[bytes, int] = {}
        if state.window().funded == state.height:
            pool = (state.height - before.window().funded) * params.auditors_reward
            audits = {auditor: pool * marks // work.total() for auditor, marks in work.items()}
        if state.window().over:
            work.clear()
        for item in block.body.ratings:
            if isinstance(item, AuditReveal):
                work[item.signer] = sum(map(marked, item.reports))
        yield Income(
            _earned(before, state, {block.sealed.proposer: params.proposer_reward}),
            _earned(before, state, voter_rewards(block.body.votes, params, before.table)),
            _earned(before, before, audits),  # the window ends before anything else in the block
        )


def _earned(before: State, when: State, rewards: dict[bytes, int]) -> dict[bytes, int]:
    """Without what is not issued, as its owner is barred."""
    found = {}
    for public, amount in rewards.items():
        validator = when.validator(public)
        if amount and validator is not None and validator.barred_until <= before.finality.epochs:
            found[public] = amount
    return found
