"""What blocks and votes earn, and how it vests.

A block issues the proposer's share, and the voters' share divided by weight among those whose votes the block
counts. The auditors' share is issued when a rating window ends, for all blocks since the one before, so that
no more than `issuance_per_block` comes to a block. What nobody earns is not issued. Fees are not rewards: the
proposer has them at once.

Rewards vest linearly over `evidence_epochs` finalized epochs, the time in which their owner can be convicted;
what has not vested can be lost. The rewards of one twelfth of that time are one grant, which begins to vest
when that twelfth ends, so that nobody has more than 14 grants. What has vested moves to the balance with the
owner's next reward or transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from chain.draft import Draft
from chain.entries import Grant, Vesting, vesting_key
from chain.finality import epoch_of
from chain.ledger import Ledger
from chain.params import ChainParams
from chain.votes import Vote
from chain.weights import WeightTable

GRANTS_PER_PERIOD = 12


def issue(
    draft: Draft, proposer: bytes, votes: Iterable[Vote], table_of: Callable[[int], WeightTable]
) -> None:
    """Issue the rewards of one block.

    Args:
        draft: after everything else in the block.
        proposer: 32-byte account.
        votes: those that the block counts.
        table_of: gives the weight table of an epoch.
    """
    params = draft.genesis.params
    _pay(draft, proposer, params.proposer_reward)
    for voter, amount in sorted(voter_rewards(votes, params, table_of).items()):
        _pay(draft, voter, amount)


def pay_auditors(draft: Draft, work: Mapping[bytes, int], blocks: int) -> None:
    """Issue the auditors' share of so many blocks, divided by what each did; nothing where nobody did any.

    Args:
        work: by account, above 0: what it replayed.
    """
    pool, total = blocks * draft.genesis.params.auditors_reward, sum(work.values())
    for auditor in sorted(work):
        _pay(draft, auditor, pool * work[auditor] // total)


def voter_rewards(
    votes: Iterable[Vote], params: ChainParams, table_of: Callable[[int], WeightTable]
) -> dict[bytes, int]:
    """Base units by voter: the voters' pool times weight over V, in the table of the vote's target; each
    voter once, so that a block never issues more than the pool.
    """
    rewards: dict[bytes, int] = {}
    for vote in votes:
        table = table_of(epoch_of(vote.link.target, params))
        if table.voices:
            share = params.voters_reward * table.voice(vote.voter) // table.voices
            # Tables of two epochs may both be in a block; the lower share keeps the sum within the pool.
            rewards[vote.voter] = min(share, rewards.get(vote.voter, share))
    return rewards


def release(draft: Draft, public: bytes) -> None:
    """Move what has vested to the account's balance."""
    vesting = draft.vesting(public)
    left = _later(vesting, draft.epochs, draft.genesis.params)
    if left != vesting:
        draft.put(vesting_key(public), left)
        draft.credit(public, vesting.held - left.held)


def forfeit(draft: Draft, public: bytes) -> int:
    """Take what has not vested from a convicted account; base units. The caller says where they go."""
    release(draft, public)
    lost = draft.vesting(public).held
    if lost:
        draft.put(vesting_key(public), Vesting())
    return lost


def vested(ledger: Ledger, epochs: int, public: bytes) -> int:
    """Base units that `release` would move after so many finalized epochs."""
    vesting = ledger.vesting(public)
    return vesting.held - _later(vesting, epochs, ledger.genesis.params).held


def epochs_left(ledger: Ledger, epochs: int, public: bytes) -> int:
    """Finalized epochs until everything that the account has now has vested."""
    grants = ledger.vesting(public).grants
    return max(grants[-1].start + ledger.genesis.params.evidence_epochs - epochs, 0) if grants else 0


def _pay(draft: Draft, public: bytes, amount: int) -> None:
    """Issue to a validator; who is barred earns nothing, though the table of the epoch may still have it."""
    validator = draft.validator(public)
    if not amount or validator is None or validator.barred_until > draft.epochs:
        return
    release(draft, public)
    width = max(draft.genesis.params.evidence_epochs // GRANTS_PER_PERIOD, 1)
    start = -(-draft.epochs // width) * width
    draft.put(vesting_key(public), _granted(draft.vesting(public), start, amount))
    draft.books.issued += amount


def _granted(vesting: Vesting, start: int, amount: int) -> Vesting:
    """With a reward that begins to vest at `start`, which is not before that of any other and not over."""
    last = vesting.grants[-1:]
    if last and last[0].start == start:
        return Vesting((*vesting.grants[:-1], Grant(start, last[0].amount + amount, last[0].left + amount)))
    return Vesting((*vesting.grants, Grant(start, amount, amount)))


def _later(vesting: Vesting, epochs: int, params: ChainParams) -> Vesting:
    """What is left of the grants after so many finalized epochs."""
    period = params.evidence_epochs
    grants = []
    for grant in vesting.grants:
        passed = min(max(epochs - grant.start, 0), period)
        left = grant.amount - grant.amount * passed // period
        if left:
            grants.append(Grant(grant.start, grant.amount, left))
    return Vesting(tuple(grants))
