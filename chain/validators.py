"""Who may be drawn and vote: registration with a bond, and what evidence costs.

A validator is an account with a VRF key, a rating and a bond. Founders stand in the genesis; others register
and begin with rating 0, which draws nothing: a rating has to be earned. A sponsor may pay fee and bond for a
newcomer who owns nothing yet. Who is convicted loses rating, bond and vesting rewards and is barred for a
while.

Time is counted in finalized epochs: it stands still while nothing becomes final, so a partition cannot let
evidence grow old, or a bar end.
"""

from __future__ import annotations

from dataclasses import replace

from chain import rewards, vrf
from chain.draft import Draft
from chain.entries import EpochEntry, Validator
from chain.errors import InvalidEvidence, InvalidTransaction
from chain.evidence import Evidence, TwoSeals
from chain.rating.entries import Standing, standing_key
from chain.transactions import Register, Tx

REPORTER_SHARE = 16
"""Who includes evidence, or wins the case of an accusation, gets one part in so many of what the other one
loses; the rest is burned.
"""


def register(draft: Draft, slot: int, tx: Tx, payload: Register) -> None:
    """Register an account, or change its VRF key and name and add to its bond.

    Who is new, or was convicted, begins anew with the rating windows that start after `slot`.

    Raises:
        InvalidTransaction: it breaks a rule.
    """
    if not payload.consents(tx.chain_id, tx.sender):
        raise InvalidTransaction("the account did not agree to this registration")
    if not vrf.valid_key(payload.vrf_public):
        raise InvalidTransaction("the VRF key is not one")
    known = draft.validator(payload.account)
    old = known or Validator(payload.account, payload.vrf_public, 0)
    if old.barred_until > draft.epochs:
        raise InvalidTransaction(f"the account is barred for {old.barred_until - draft.epochs} more epochs")
    if known is not None and payload.sequence <= known.sequence:
        raise InvalidTransaction("a later registration of this account is in force")
    owner = draft.vrf_owner(payload.vrf_public)
    if owner not in (None, payload.account):
        raise InvalidTransaction("another account has this VRF key")
    bond = old.bond + payload.bond
    if bond < draft.genesis.params.bond and not old.founder:
        raise InvalidTransaction(f"the bond of {bond} is below the least of {draft.genesis.params.bond}")
    draft.debit(tx.sender, payload.bond, "the bond")
    if known is None or known.convicted:
        draft.put(standing_key(payload.account), Standing(since=slot))
    draft.put_validator(
        replace(
            old,
            vrf_public=payload.vrf_public,
            name=payload.name,
            bond=bond,
            sequence=payload.sequence,
            barred_until=0,
        )
    )


def convict(draft: Draft, evidence: Evidence, slot: int, reporter: bytes) -> None:
    """Carry out what evidence costs: the rating, the bond, the rewards that have not vested, and a bar.

    Args:
        slot: of the block that holds it.
        reporter: 32-byte account of that block's proposer.

    Raises:
        InvalidEvidence: it does not hold, is too old, or its offender has been punished.
    """
    genesis = draft.genesis
    offence = genesis.slot_at(evidence.timestamp_ms) if isinstance(evidence, TwoSeals) else evidence.slot
    if offence > slot:
        raise InvalidEvidence("the evidence is from the future")
    if offence < oldest_offence(draft):
        raise InvalidEvidence("the evidence is too old")
    validator = draft.validator(evidence.offender)
    if validator is None:
        raise InvalidEvidence("the offender is no validator")
    if validator.barred_until > draft.epochs:
        raise InvalidEvidence("the offender has been punished")
    evidence.check(genesis.chain_id)
    punish(draft, validator, reporter)


def punish(draft: Draft, offender: Validator, reporter: bytes) -> None:
    """Take the rating, the bond and what has not vested, bar the offender, give the reporter its share."""
    lost = offender.bond + rewards.forfeit(draft, offender.public)
    reward = lost // REPORTER_SHARE
    barred_until = draft.epochs + draft.genesis.params.bar_epochs
    draft.put_validator(replace(offender, rating=0, bond=0, barred_until=barred_until))
    draft.books.burned += lost - reward
    if reward:
        draft.credit(reporter, reward)


def oldest_offence(draft: Draft) -> int:
    """The first slot for which evidence still counts: the end of what was final `evidence_epochs` ago."""
    since = draft.epochs - draft.genesis.params.evidence_epochs
    entry = draft.epoch_entry(since) if since > 0 else None
    return entry.slot if isinstance(entry, EpochEntry) else 0
