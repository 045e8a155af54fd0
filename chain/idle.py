"""Whether a block, or a vote, is worth sending now: an idle network sends next to nothing.

The policy of proposers and voters, not a rule of validity. A leader publishes if something waits for a
block, if the epoch's heartbeat is due, or if the votes at hand bring the finality of what is not final yet
forward. A validator votes while its head's branch has something that is not final.
See docs/decisions/0005-idle-network.md. Pure; it looks at a chain and at a pool and changes neither.
"""

from __future__ import annotations

from collections.abc import Iterable

from chain.content import is_heartbeat, job_is_due, unsettled
from chain.forkchoice import Chain
from chain.mempool import Mempool
from chain.producer import choose_votes, punishes
from chain.rating.schedule import border_is_due
from chain.state import State
from chain.transition import following
from chain.votes import Vote


def wants_block(chain: Chain, pool: Mempool, slot: int) -> bool:
    """Whether the leader of `slot` has a reason to extend the head.

    Whoever is drawn as a later rank should ask as the slot begins: it stands in for a leader that is not
    there, and what came after the leader's turn is the next slot's.
    """
    state = chain.state()
    if is_heartbeat(state, slot) or something_waits(chain, pool, slot):
        return True
    content_slot = chain.content_slot()
    return unsettled(state, content_slot) and brings_forward(state, slot, chain.votes, content_slot)


def wants_vote(chain: Chain) -> bool:
    """Whether a vote on the head may help: something on its branch is not final.

    Also where the vote's own link cannot reach that yet, as within a checkpoint interval, the vote's head
    counts in the fork choice.
    """
    return unsettled(chain.state(), chain.content_slot())


def brings_forward(state: State, slot: int, known: Iterable[Vote], content_slot: int) -> bool:
    """Whether a block of `slot` after `state`, with those of the known votes that it can hold, makes a
    checkpoint final, or justifies one that has the latest content in or below it.

    Votes without a quorum can wait in everybody's memory. So can those that justify a checkpoint from before
    the content: the source of the votes that count is justified already.
    """
    before = after = following(state, slot)
    for vote in choose_votes(state, slot, known):
        after = after.counted(vote, state.table)
    if after.final.number > before.final.number:
        return True
    highest = after.highest.number
    return highest > before.highest.number and highest * state.genesis.params.checkpoint_slots >= content_slot


def something_waits(chain: Chain, pool: Mempool, slot: int) -> bool:
    """Whether a block of `slot` on the head could hold anything but votes, or would move a job or a rating
    window on.
    """
    state = chain.state()
    return (
        job_is_due(state, slot)
        or border_is_due(state, slot)
        or bool(pool.select(state, slot, 1))
        or bool(pool.select_records(state, slot))
        or bool(pool.select_ratings(state, slot, 1))
        or punishes(state, slot, chain.evidence())
    )
