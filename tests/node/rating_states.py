"""States with rating windows in them, made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from chain.entries import Entry
from chain.genesis import Founder, Genesis
from chain.ledger import Place
from chain.params import DEMO, ChainParams
from chain.producer import ProposerKeys
from chain.rating.entries import WINDOW_KEY as WINDOW_KEY
from chain.rating.entries import Claim, Outcome, Standing, Window, claim_key, standing_key
from chain.state import State, genesis_state
from chain.transition import open_slot

KEYS = [ProposerKeys.from_seeds(bytes([i]) * 32, bytes([i + 100]) * 32) for i in range(1, 5)]
START = DEMO.window_every_slots
"""Of the first window."""
WINDOW = Window(START, DEMO.window_slots, 3, b"\x01" * 32, b"", b"", over=False)
CLAIM = Claim(START, 40, b"\x02" * 32, 5, b"\x03" * 32, 50)
OUTCOME = Outcome(START, 30, 40, 940_000, 990_000, 1_010_000, 0, 3, 1)


def state_with(
    entries: Mapping[bytes, object], slot: int = START, params: ChainParams = DEMO, rated_until: int = 0
) -> State:
    """A chain of four founders, v0 to v3, with these entries after a block of `slot`."""
    founders = tuple(
        Founder(keys.public, keys.vrf_public, 10 * (i + 1), f"v{i}", rated_until=rated_until)
        for i, keys in enumerate(KEYS)
    )
    state = genesis_state(Genesis("test", 0, params, founders, ()))
    draft = open_slot(state, slot)
    for key, entry in entries.items():
        draft.put(key, entry)  # type: ignore[arg-type]
    return draft.seal(b"\x01" * 32, Place(1, slot, 0), state.randomness, state.finality, state.tables)


def standing(i: int, *outcomes: Outcome) -> dict[bytes, Entry]:
    """What the windows gave founder i."""
    return {standing_key(KEYS[i].public): Standing(0, outcomes)}


def claim(i: int, **changes: object) -> dict[bytes, Entry]:
    """What founder i committed to."""
    return {claim_key(KEYS[i].public): replace(CLAIM, **changes)}
