"""What is expensive to check of blocks, in threads: signatures and VRF proofs of many, replays for rulings.

libsodium and NumPy run without the interpreter's lock.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import trio

from chain.errors import UnknownBlock
from chain.foresight import check_ahead
from chain.forkchoice import Chain
from chain.rating.accusing import Case
from chain.rating.court import Court
from chain.types import Block

MIN_BLOCKS = 4
"""Fewer are checked where they are executed."""
_THREADS = max(1, min(4, os.cpu_count() or 1))


async def checked_ahead(chain: Chain, blocks: Sequence[Block]) -> None:
    """Check what can be checked of blocks before they are executed; the results are remembered.

    Args:
        chain: where the first one's parent is, or nothing is done.
        blocks: each on top of the one before.
    """
    if len(blocks) < MIN_BLOCKS:
        return
    try:
        state = chain.state(blocks[0].prev)
    except UnknownBlock:
        return
    async with trio.open_nursery() as nursery:
        for first in range(_THREADS):
            nursery.start_soon(trio.to_thread.run_sync, check_ahead, state, blocks[first::_THREADS])


async def judge_in_thread(court: Court, cases: Sequence[Case]) -> None:
    """Replay what rulings are about; the court remembers. Up to an episode's time each."""
    for case in cases:
        await trio.to_thread.run_sync(court.judge, case)
