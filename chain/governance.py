"""How the voters change the baseline of ratings: a proposal, approvals of two thirds, a full epoch's notice.

Every count is of the voters' weight V in the table that draws the proposers of the block that holds the
transaction: all approvals are weighed anew by that one table, whatever they weighed when they came. Who has
been convicted since counts for nothing. Branches decide for themselves, each by its own blocks.

Everything here works on a Draft and raises InvalidTransaction; whoever called throws the draft away then.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace

from chain.draft import Draft
from chain.entries import GOVERNANCE_KEY, Governance, Proposal
from chain.errors import InvalidTransaction
from chain.quality import Baseline
from chain.transactions import ParamUpdate, Tx
from chain.weights import WeightTable

NOTICE_EPOCHS = 2
"""From the epoch that adopts a change to the first one in which it holds: one full epoch lies between."""
KEPT_EPOCHS = 8
"""For so many epochs, and while a rating window of them is under way, what held in them can be asked for;
after that only where nothing took its place."""


def advance(draft: Draft, slot: int) -> None:
    """Begin a block's slot: proposals whose time is over go, and so does what held long ago."""
    found = draft.governance()
    proposals = tuple(entry for entry in found.proposals if entry.last_slot >= slot)
    oldest = slot // draft.genesis.params.slots_per_epoch - KEPT_EPOCHS
    window = draft.window()
    if not window.over:
        oldest = min(oldest, window.epoch)
    place = bisect_right(found.adopted, oldest, key=lambda entry: entry[0])
    left = Governance(found.adopted[max(place - 1, 0) :], proposals)
    if left != found:
        draft.put(GOVERNANCE_KEY, left)


def update(draft: Draft, slot: int, tx: Tx, payload: ParamUpdate) -> None:
    """PARAM_UPDATE: open a proposal with the proposer's approval, or approve one; adopt it with enough.

    Raises:
        InvalidTransaction: it breaks a rule.
    """
    table = draft.table_at(slot)
    if not _weight(draft, table, tx.sender):
        raise InvalidTransaction("only a voter of this epoch may propose or approve")
    if isinstance(payload.change, bytes):
        proposal = _approved(draft.governance(), payload.change, tx.sender)
    else:
        proposal = _opened(draft, slot, tx, payload.change)
    found = draft.governance()
    others = tuple(entry for entry in found.proposals if entry.id != proposal.id)
    if 3 * support(draft, table, proposal) < 2 * table.voices:
        place = next((i for i, entry in enumerate(found.proposals) if entry.id == proposal.id), len(others))
        draft.put(GOVERNANCE_KEY, replace(found, proposals=(*others[:place], proposal, *others[place:])))
        return
    begins = slot // draft.genesis.params.slots_per_epoch + NOTICE_EPOCHS
    earlier = tuple(entry for entry in found.adopted if entry[0] < begins)
    draft.put(GOVERNANCE_KEY, Governance((*earlier, (begins, proposal.baseline)), others))


def support(draft: Draft, table: WeightTable, proposal: Proposal) -> int:
    """The weight of those who approved a proposal, by one table."""
    return sum(_weight(draft, table, public) for public in proposal.approvals)


def _weight(draft: Draft, table: WeightTable, public: bytes) -> int:
    """An account's weight among the voters; 0 for who is barred, though the table may still have it."""
    validator = draft.validator(public)
    barred = validator is not None and validator.barred_until > draft.epochs
    return 0 if barred else table.voice(public)


def _opened(draft: Draft, slot: int, tx: Tx, baseline: Baseline) -> Proposal:
    """A new proposal; where all places are taken, the least supported one makes room for more weight."""
    params, found = draft.genesis.params, draft.governance()
    if any(entry.proposer == tx.sender for entry in found.proposals):
        raise InvalidTransaction("a proposal of this account is open already")
    last = found.adopted[-1][1] if found.adopted else params.baseline
    if baseline == last:
        raise InvalidTransaction("this baseline is in force already, or will be")
    if len(found.proposals) >= params.max_proposals:
        table = draft.table_at(slot)
        least = min(found.proposals, key=lambda entry: (support(draft, table, entry), entry.id))
        if _weight(draft, table, tx.sender) <= support(draft, table, least):
            raise InvalidTransaction(f"{params.max_proposals} proposals with as much support are open")
        kept = tuple(entry for entry in found.proposals if entry.id != least.id)
        draft.put(GOVERNANCE_KEY, replace(found, proposals=kept))
    last_slot = slot + params.proposal_epochs * params.slots_per_epoch
    return Proposal(tx.id, tx.sender, baseline, last_slot, (tx.sender,))


def _approved(found: Governance, proposal_id: bytes, voter: bytes) -> Proposal:
    """The proposal with one approval more."""
    proposal = next((entry for entry in found.proposals if entry.id == proposal_id), None)
    if proposal is None:
        raise InvalidTransaction(f"there is no open proposal {proposal_id.hex()[:16]}")
    if voter in proposal.approvals:
        raise InvalidTransaction("this account has approved the proposal already")
    return replace(proposal, approvals=tuple(sorted((*proposal.approvals, voter))))
