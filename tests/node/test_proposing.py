"""A node that was no founder proposes and votes as soon as its account is in the weight table."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from chain.entries import Validator
from chain.genesis import Founder, Genesis
from chain.ledger import Place
from chain.params import DEMO
from chain.producer import ProposerKeys
from chain.state import State, genesis_state
from chain.tables import Tables
from chain.transition import open_slot
from chain.voting import owed_vote
from p2pml.node.proposing import Proposer
from p2pml.storage.signing_journal import SigningJournal

FOUNDER = ProposerKeys.from_seeds(b"\x01" * 32, b"\x02" * 32)
LATE = ProposerKeys.from_seeds(b"\x03" * 32, b"\x04" * 32)
OTHER_VRF = ProposerKeys.from_seeds(b"\x03" * 32, b"\x05" * 32)
SLOTS = range(2, 40)


def rated(rating: int) -> State:
    """A chain on which a newcomer has registered and been rated, in the table of every epoch."""
    founder = Founder(FOUNDER.public, FOUNDER.vrf_public, 10, "")
    state = genesis_state(Genesis("test", 0, DEMO, (founder,), ()))
    draft = open_slot(state, 1)
    draft.put_validator(Validator(LATE.public, LATE.vrf_public, rating))
    state = draft.seal(b"\x01" * 32, Place(1, 1, 0), state.randomness, state.finality, state.tables)
    state.tables = Tables(state.tables.ratings, ((0, state.tables.latest),))
    return state


def slots_of(keys: ProposerKeys, state: State, folder: Path) -> list[int]:
    service: Any = SimpleNamespace(state=lambda: state)
    proposer = Proposer(service, SigningJournal(folder / "signed", state.genesis.chain_id), keys)
    return [slot for slot in SLOTS if proposer._ranks(slot)]


def test_a_registered_node_proposes_and_votes_once_it_is_rated(tmp_path: Path) -> None:
    for rating, drawn in ((0, False), (10, True)):
        state = rated(rating)
        assert bool(slots_of(LATE, state, tmp_path)) is drawn
        assert (owed_vote(LATE.keypair, state, 1, None) is not None) is drawn


def test_no_block_under_a_vrf_key_that_the_table_does_not_have(tmp_path: Path) -> None:
    """The account registered another key since: what it proposed would be invalid."""
    state = rated(10)
    assert slots_of(OTHER_VRF, state, tmp_path) == []
    assert slots_of(LATE, state, tmp_path) != []
