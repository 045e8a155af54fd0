"""What there is to make final: blocks that hold anything but votes, those that pass a border of a rating
window, and one heartbeat an epoch.

Bars, vesting, the age of evidence and the expiry of ratings count epochs in which something became final,
and an epoch's randomness should not be known before it ends. So also a network that has nothing to say
publishes one block an epoch, its heartbeat, and makes it final; see docs/decisions/0005-idle-network.md.
None of this is a rule of validity: any block may be empty.
"""

from __future__ import annotations

from chain.params import ChainParams
from chain.rating.schedule import border_is_due
from chain.state import State
from chain.types import Block


def closing_slots(params: ChainParams) -> int:
    """The last slots of an epoch, in which its heartbeat comes.

    Just enough for the heartbeat in the first of them and for the blocks that make it final, the second of
    which is then in the epoch's last slot: its randomness is folded in as late as on a busy chain.
    """
    return params.checkpoint_slots + 2


def beat_of(slot: int, params: ChainParams) -> int:
    """Counts heartbeats: it goes up by one where the last slots of an epoch begin."""
    return (slot + closing_slots(params)) // params.slots_per_epoch


def heartbeat_slot(state: State) -> int:
    """The slot in which the next heartbeat is due, if no block comes before it after `state`."""
    if state.height == 0:
        return 1  # the first block shows that the network is there
    params = state.genesis.params
    return (beat_of(state.slot, params) + 1) * params.slots_per_epoch - closing_slots(params)


def is_heartbeat(state: State, slot: int) -> bool:
    """Whether a block of `slot` after `state` is a heartbeat, whatever it holds."""
    return slot >= heartbeat_slot(state)


def job_is_due(state: State, slot: int) -> bool:
    """Whether a block of `slot` moves a job on: a deadline or a challenge window is over."""
    return bool(state.due) and state.due[0][0] < slot


def has_content(parent: State, block: Block) -> bool:
    """Whether a block is to be made final for its own sake.

    Args:
        parent: the state that it follows.
        block: valid after it.
    """
    body, slot = block.body, parent.genesis.slot_at(block.sealed.timestamp_ms)
    items = body.txs or body.ratings or body.records or body.evidence
    moves = is_heartbeat(parent, slot) or job_is_due(parent, slot) or border_is_due(parent, slot)
    return bool(items) or moves


def unsettled(state: State, content_slot: int) -> bool:
    """Whether something on the branch of `state` is still to become final.

    Args:
        content_slot: slot of the branch's latest block with content; 0 if there is none.
    """
    return content_slot > state.finality.final_slot
