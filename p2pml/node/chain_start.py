"""How a node takes its chain up at its start: from the newest good snapshot, or from the genesis on."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass

import trio

from chain.errors import InvalidError, StaleBlock, UnknownParent
from chain.forkchoice import Chain, Start
from chain.genesis import Genesis
from chain.snapshot import Snapshot, TrustedPoint
from chain.snapshot_sync import GaveUp, SnapshotSync
from p2pml.errors import ExitCode, UserError
from p2pml.net.host import Host
from p2pml.net.snapshots import SnapshotPump
from p2pml.storage.chain_db import ChainDb, DamagedChain
from p2pml.storage.chain_snapshots import ChainSnapshots

log = logging.getLogger(__name__)

_REPLAY_STEP = 16


@dataclass(frozen=True, slots=True)
class TakenUp:
    """A chain as it is on disk.

    Args:
        chain: with every stored block that follows from its start.
        start: the snapshot that it begins with; None for the genesis.
        executed: blocks that were executed.
    """

    chain: Chain
    start: Start | None
    executed: int


async def take_up(genesis: Genesis, db: ChainDb, snapshots: ChainSnapshots, keep: int) -> TakenUp:
    """The chain from disk: the newest snapshot that holds, and the blocks after it.

    A snapshot that is damaged, or that the blocks do not follow from, is told, dropped, and passed over.

    Raises:
        DamagedChain: the blocks do not hold from wherever they are executed.
        UserError: the disk cannot be read.
    """
    for height in await trio.to_thread.run_sync(snapshots.heights):
        start = await trio.to_thread.run_sync(_start_at, height, genesis, db, snapshots)
        if start is None:
            continue
        try:
            return await _replay(genesis, db, keep, start)
        except DamagedChain as error:
            log.warning("the chain does not go on from the snapshot at height %d: %s", height, error.cause)
            await trio.to_thread.run_sync(snapshots.drop, height)
    if db.head_id() is not None and db.lowest_body() != 1:
        raise db.damaged("its first blocks are not here, and no snapshot to begin with is good")
    return await _replay(genesis, db, keep, None)


async def join_at(
    point: TrustedPoint,
    genesis: Genesis,
    db: ChainDb,
    snapshots: ChainSnapshots,
    host: Host,
    rng: random.Random,
) -> None:
    """Let an empty home begin at a trusted checkpoint: fetch its state from the peers of a running host.

    Raises:
        UserError: there is another chain here already, or no peer gives that state.
    """
    if db.head_id() is not None:
        if db.canonical_id(point.height) == point.id:
            log.info("the trusted checkpoint at height %d is in the chain here already", point.height)
            return
        raise UserError(
            f"the chain in this home does not have the checkpoint's block at height {point.height}",
            "leave --checkpoint out, or use it with a fresh home",
            ExitCode.BAD_CONFIG,
        )
    log.info("fetching the state at the trusted checkpoint, height %d, from peers", point.height)
    machine = SnapshotSync(genesis, point, rng, trio.current_time())
    end = await SnapshotPump(host, machine).run()
    if isinstance(end, GaveUp):
        raise UserError(
            f"no peer gives the state of the checkpoint at height {point.height}: {end.reason}",
            "take a newer one from a node you trust, `p2pml chain checkpoint`: peers keep a state for some"
            " hundred blocks only",
        )
    # The snapshot first: a database that begins at a block needs it.
    await trio.to_thread.run_sync(lambda: snapshots.write(Snapshot(end.state, end.sealed)))
    await trio.to_thread.run_sync(db.begin_at, end.sealed)
    log.info("the chain begins at the trusted checkpoint, height %d", point.height)


def warn_when_long_away(genesis: Genesis, head_slot: int, slot_now: int) -> None:
    """Tell the operator when the stored chain is older than evidence is good for (`evidence_epochs`)."""
    params = genesis.params
    if 0 < head_slot < slot_now - params.evidence_epochs * params.slots_per_epoch:
        log.warning(
            "the chain here is older than evidence is good for: validators that have left since may sign"
            " another past. Compare `p2pml chain checkpoint` with a node you trust, or begin anew at its"
            " checkpoint (`p2pml daemon --checkpoint`, with chain.sqlite* and chain.snapshots moved away)"
        )


def _start_at(height: int, genesis: Genesis, db: ChainDb, snapshots: ChainSnapshots) -> Start | None:
    """The start from a stored snapshot; None when it is of no use."""
    try:
        stored = snapshots.read(height)
        if db.canonical_id(height) != stored.state.block_id:
            raise InvalidError("its block is not in the database")
    except InvalidError as error:
        log.warning("the snapshot at height %d does not hold: %s; it is dropped", height, error)
        snapshots.drop(height)
        return None
    except UserError as error:
        log.warning("%s", error)
        return None
    first, ids = db.ids_below(height)
    return Start(stored.state, stored.sealed, ((genesis.chain_id,) if first == 1 else ()) + tuple(ids))


async def _replay(genesis: Genesis, db: ChainDb, keep: int, start: Start | None) -> TakenUp:
    chain = Chain(genesis, keep, start=start)
    base = chain.head.height
    count = 0
    for count, block in enumerate(db.replay(base), start=1):
        try:
            chain.on_block(block, block.sealed.timestamp_ms + 2**40, verify_seals=False)
        except (StaleBlock, UnknownParent):
            continue  # of a side branch that the chain has left far behind
        except InvalidError as error:
            raise db.damaged(f"block {block.height} does not follow: {error}") from error
        if count % _REPLAY_STEP == 0:
            await trio.lowlevel.checkpoint()
    if db.head_id() not in (None, chain.head.id):
        raise db.damaged("its blocks do not lead to its head")
    if count or start:
        log.info("executed %d blocks after height %d, head %d", count, base, chain.head.height)
    return TakenUp(chain, start, count)
