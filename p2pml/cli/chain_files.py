"""`p2pml chain verify` and `export`: the chain as a whole, with or without a daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pml.cli.chain_commands import group
from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import emit, emit_json, fields, say, tokens
from p2pml.errors import UserError
from p2pml.home import Home

if TYPE_CHECKING:
    from chain.genesis import Genesis
    from p2pml.storage.chain_db import ChainDb
    from p2pml.storage.chain_snapshots import Stored

TELL_S = 2.0


def register() -> None:
    group.command("verify")(verify)
    group.command("export")(export)


def verify(
    file: Annotated[
        Path | None, typer.Argument(help="a chain that `p2pml chain export` wrote; default: this node's own")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Execute every block again from the genesis on: signatures, draws, votes, transactions, books.

    On a pruned node, from its oldest snapshot on.
    """
    from p2pml.node.chain_audit import audit
    from p2pml.storage.chain_export import read_chain

    begin = told = time.monotonic()

    def progress(height: int) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_S:
            told = time.monotonic()
            say(f"block {height}, {height / (told - begin):.0f} per second")

    oldest: Stored | None = None
    if file is not None:
        found = audit(*read_chain(file), progress)
    else:
        with own_chain(Home.locate(home)) as (genesis, db):
            oldest = _oldest(genesis, db)
            start = None if oldest is None else oldest.state
            found = audit(genesis, db.best_branch(start.height if start else 0), progress, start)
    if as_json:
        certified = None if oldest is None else oldest.certificate is not None
        emit_json({**asdict(found), "adds_up": found.supply.ok, "certified": certified})
        return
    books = found.supply
    emit(
        fields(
            [
                ("chain id", found.chain_id),
                ("height", f"{found.height}, of which final: {found.final_height}"),
                ("head", found.head),
                ("state", found.state_root),
                ("transactions", found.transactions),
                ("rounds", found.rounds),
                ("votes", found.votes),
                ("evidence", found.evidence),
                ("issued", f"{tokens(books.issued)}, burned {tokens(books.burned)}"),
            ]
        )
    )
    taken = f"{time.monotonic() - begin:.1f} s"
    if oldest is None:
        emit(f"every rule holds in all {found.height} blocks; {taken}")
        return
    emit(f"pruned: what was before the snapshot at height {found.first} is not here and was not executed")
    emit(
        f"that snapshot is {'certified by votes' if oldest.certificate else 'a checkpoint that was trusted'}"
    )
    emit(f"every rule holds in the {found.height - found.first} blocks after it; {taken}")


def export(
    file: Annotated[Path, typer.Argument(help="the file to write")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write genesis and blocks to one file, for `p2pml chain verify FILE` anywhere."""
    from p2pml.storage.chain_export import write_chain

    with own_chain(Home.locate(home)) as (genesis, db):
        if db.lowest_body() not in (None, 1):
            raise UserError(
                f"this node is pruned: it has no blocks below height {db.lowest_body()}",
                "export the chain on a node that keeps every block",
            )
        count = write_chain(file, genesis, db.best_branch())
    size = file.stat().st_size
    if as_json:
        emit_json({"file": str(file), "blocks": count, "bytes": size})
    else:
        emit(f"{file}: {count} blocks, {size} bytes")


@contextmanager
def own_chain(home: Home) -> Iterator[tuple[Genesis, ChainDb]]:
    """The chain in a home, as it is now; a daemon may go on beside it."""
    from p2pml.node.genesis_file import read_genesis
    from p2pml.storage.chain_db import ChainDb

    genesis = read_genesis(home.genesis_file)
    if not home.chain_db.exists():
        raise UserError(f"there is no chain in {home.root} yet", "start the node once: `p2pml daemon`")
    db = ChainDb(home.chain_db, genesis.chain_id)
    try:
        yield genesis, db
    finally:
        db.close()


def _oldest(genesis: Genesis, db: ChainDb) -> Stored | None:
    """The snapshot that a pruned chain begins with; None where every block is here."""
    from chain.errors import InvalidError
    from p2pml.storage.chain_snapshots import ChainSnapshots

    if db.head_id() is None or db.lowest_body() == 1:
        return None
    snapshots = ChainSnapshots.beside(db.path, genesis)
    for height in reversed(snapshots.heights()):
        try:
            found = snapshots.read(height)
        except InvalidError as error:
            say(f"the snapshot at height {height} does not hold: {error}")
            continue
        if db.canonical_id(height) == found.state.block_id:
            return found
    raise UserError(
        "this node is pruned, and none of its snapshots is good",
        "start the node again: it fetches the chain from its peers",
    )
