"""Records about validators and about what they decide, as the API gives them: amounts are base units,
accounts addresses, ids and hashes hexadecimal text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chain import address, governance
from chain.entries import Proposal
from chain.quality import BUNDLED, Baseline
from chain.state import State
from chain.transition import open_slot


@dataclass(frozen=True, slots=True)
class ValidatorDetailView:
    """One validator. `rating` is that of the head, `weight` that of the table which draws now; `draw_share`
    the probability of being drawn at rank 0 of a slot, `vote_share` its part of V; `own`: it is this node.
    """

    address: str
    name: str
    own: bool
    founder: bool
    rating: int
    weight: int
    draw_share: float
    vote_share: float
    bond: int
    vesting: int
    barred_epochs: int
    vrf_public: str
    sequence: int


@dataclass(frozen=True, slots=True)
class RegistrationView:
    """A registration that another account is to sign: the payload in its canonical encoding, as hexadecimal
    text, and what it costs that account.
    """

    payload: str
    bond: int
    fee: int


@dataclass(frozen=True, slots=True)
class SponsorInviteView:
    """What a sponsoring invite promises; `secret` is for whoever may use it."""

    account: str
    secret: str
    bond: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class BaselineView:
    """`dataset` is what the chain calls the data set; empty when nobody announced it."""

    infohash: str
    dataset: str
    q_min: int
    q_ref: int


@dataclass(frozen=True, slots=True)
class AdoptedView:
    """A baseline that the voters decided on, in force from the start of `epoch`."""

    epoch: int
    baseline: BaselineView


@dataclass(frozen=True, slots=True)
class ProposalView:
    """`support` is the weight behind it now, `needed` what adopts it; `last_slot` that of the last block that
    may hold an approval.
    """

    id: str
    proposer: str
    proposer_name: str
    baseline: BaselineView
    last_slot: int
    approvals: list[str]
    support: int
    needed: int


@dataclass(frozen=True, slots=True)
class ParametersView:
    """The rules of the genesis, and what of them the voters changed and may change. `epoch` and `slot` are
    those of the next block.
    """

    params: dict[str, Any]
    slot: int
    epoch: int
    baseline: BaselineView
    coming: list[AdoptedView]
    proposals: list[ProposalView]


def validator_view(state: State, slot: int, public: bytes, own: bool) -> ValidatorDetailView | None:
    """A validator as of `state`, weighed by the table of `slot`; None for who never registered."""
    entry = state.validator(public)
    if entry is None:
        return None
    table = state.table_at(slot)
    weight = table.get(public)
    rating = 0 if weight is None else weight.rating
    return ValidatorDetailView(
        address=address.encode(public),
        name=entry.name,
        own=own,
        founder=entry.founder,
        rating=entry.rating,
        weight=rating,
        draw_share=rating / table.total,
        vote_share=table.voice(public) / table.voices,
        bond=entry.bond,
        vesting=state.vesting(public).held,
        barred_epochs=max(entry.barred_until - state.finality.epochs, 0),
        vrf_public=entry.vrf_public.hex(),
        sequence=entry.sequence,
    )


def parameters_view(state: State, slot: int) -> ParametersView:
    """The parameters as a block of `slot` after `state` meets them."""
    params = state.genesis.params
    epoch = slot // params.slots_per_epoch
    draft = open_slot(state, slot)
    table, found = draft.table_at(slot), draft.governance()

    def proposal_view(entry: Proposal) -> ProposalView:
        proposer = state.validator(entry.proposer)
        return ProposalView(
            id=entry.id.hex(),
            proposer=address.encode(entry.proposer),
            proposer_name="" if proposer is None else proposer.name,
            baseline=_baseline(state, entry.baseline),
            last_slot=entry.last_slot,
            approvals=[address.encode(public) for public in entry.approvals],
            support=governance.support(draft, table, entry),
            needed=-(-2 * table.voices // 3),
        )

    return ParametersView(
        params={name: getattr(params, name) for name in params.__dataclass_fields__},
        slot=slot,
        epoch=epoch,
        baseline=_baseline(state, draft.baseline(epoch)),
        coming=[
            AdoptedView(begins, _baseline(state, adopted))
            for begins, adopted in found.adopted
            if begins > epoch
        ],
        proposals=[proposal_view(entry) for entry in found.proposals],
    )


def _baseline(state: State, baseline: Baseline) -> BaselineView:
    announced = state.dataset(baseline.infohash)
    name = "bundled digits" if baseline.infohash == BUNDLED else "" if announced is None else announced.name
    return BaselineView(baseline.infohash.hex(), name, baseline.q_min, baseline.q_ref)
