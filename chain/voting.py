"""The vote that a validator owes in a slot."""

from __future__ import annotations

from chain.crypto import Keypair
from chain.finality import epoch_of
from chain.state import State
from chain.votes import Link, Vote, sign_vote


def owed_vote(keypair: Keypair, state: State, slot: int, last: Link | None) -> Vote | None:
    """What `keypair` has to say at half of `slot` when the head is the block that `state` follows.

    Once it has given a link for a checkpoint, it repeats that link until the next one and changes only the
    head: the checkpoint may be justified by then or lie on another branch, but another link to the same
    number would be punished.

    A voice in the epoch of the source is enough: the link needs two thirds there too, and those whom a new
    table leaves out may be the ones who are missing.

    Args:
        last: the link of this validator's last vote; None for none.

    Returns:
        None where there is nothing to say, or the validator has no voice.
    """
    params = state.genesis.params
    if state.slot > slot:
        return None
    if last is not None and last.target.number == slot // params.checkpoint_slots:
        link: Link | None = last
    else:
        link = state.finality.next_link(slot, state.slot, state.block_id)
    if link is None:
        return None
    epochs = {epoch_of(end, params) for end in (link.source, link.target)}
    if not any(state.table(epoch).voice(keypair.public) for epoch in epochs):
        return None
    return sign_vote(keypair, state.genesis.chain_id, slot, link, state.block_id)
