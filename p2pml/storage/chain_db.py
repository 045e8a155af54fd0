"""The chain on disk: one sqlite file, one transaction per change of the chain.

WAL with `synchronous=FULL`: what `commit` returned from survives a kill or a power cut. Blocks of side
branches are kept as long as the chain may still switch to them. The indexes (transactions, accounts, jobs)
cover the best branch only. All of it can be fetched again from peers, so a damaged file is set aside.

Methods block for a disk access: call them in a thread. Reading goes past a writer that waits for the disk.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chain.errors import InvalidError
from chain.header import MAX_SEALED_BYTES, SealedHeader
from chain.training_records import RoundRecord
from chain.transactions import JobCancel, JobClaim, JobOpen, JobSettle, Register, Transfer, Tx
from chain.types import PAIR_BYTES, Block, split
from p2pml.errors import ExitCode, UserError

log = logging.getLogger(__name__)

FORMAT = 3
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (
    id BLOB PRIMARY KEY, height INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS blocks_height ON blocks (height);
CREATE TABLE IF NOT EXISTS headers (
    id BLOB PRIMARY KEY, height INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS canonical (
    height INTEGER PRIMARY KEY, id BLOB NOT NULL, proposer BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS canonical_proposer ON canonical (proposer);
CREATE TABLE IF NOT EXISTS txs (
    id BLOB PRIMARY KEY, height INTEGER NOT NULL, position INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS txs_height ON txs (height);
CREATE TABLE IF NOT EXISTS touched (
    what BLOB NOT NULL, height INTEGER NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY (what, height, position)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS touched_height ON touched (height);
CREATE TABLE IF NOT EXISTS rounds (
    job BLOB NOT NULL, round INTEGER NOT NULL, height INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (job, round)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rounds_height ON rounds (height);
"""
_INDEXES = ("canonical", "txs", "touched", "rounds")


@dataclass(frozen=True, slots=True)
class IncludedTx:
    """A transaction in a block of the best branch."""

    tx: Tx
    height: int
    position: int


@dataclass(frozen=True, slots=True)
class IncludedRound:
    """A round record in a block of the best branch."""

    record: RoundRecord
    height: int


class DamagedChain(UserError):
    """The file does not hold what was written to it."""


class ChainDb:
    """The database of one chain.

    Args:
        path: the file; made when missing, with its folder.
        chain_id: 32 bytes.

    Raises:
        UserError: it belongs to another chain, is damaged (`DamagedChain`) or cannot be written.
    """

    def __init__(self, path: Path, chain_id: bytes) -> None:
        self.path, self._chain_id = path, chain_id
        self.predecessor: Path | None = None
        """Where a damaged file is that this one took the place of."""
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()
        self._open()

    @classmethod
    def repaired(cls, path: Path, chain_id: bytes) -> ChainDb:
        """The database; where it is damaged, an empty one in its place. Raises UserError."""
        try:
            return cls(path, chain_id)
        except DamagedChain as error:
            kept = _set_aside(path, error)
        found = cls(path, chain_id)
        found.predecessor = kept
        return found

    def begin_anew(self, error: DamagedChain) -> None:
        """Put an empty file in the place of this one, which turned out to be damaged. Raises UserError."""
        with self._write_lock, self._read_lock, self._disk_errors():
            self.close()
            self.predecessor = _set_aside(self.path, error)
            self._open()

    def _open(self) -> None:
        with self._disk_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            try:
                self._writer.executescript(_SCHEMA)
                self._check_owner()
                (found,) = self._writer.execute("PRAGMA quick_check(1)").fetchone()
                if found != "ok":
                    raise self.damaged(found)
                self._reader = self._connect()
            except BaseException:
                self._writer.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._writer.close()

    # -- writing ---------------------------------------------------------------------------------------

    def commit(
        self,
        accepted: Sequence[Block],
        reverted: Sequence[Block] = (),
        applied: Sequence[Block] = (),
        forget_below: int = 0,
    ) -> None:
        """One step of the chain, all or nothing.

        Args:
            accepted: new valid blocks, parents first, on the best branch or not.
            reverted: blocks that left the best branch.
            applied: blocks that joined it, oldest first.
            forget_below: blocks of side branches below this height are dropped.
        """
        with self._disk_errors(), self._write_lock, self._writer as db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT OR IGNORE INTO blocks VALUES (?, ?, ?)",
                [(block.block_id, block.height, block.encoded) for block in accepted],
            )
            if reverted:
                lowest = min(block.height for block in reverted)
                for table in _INDEXES:
                    db.execute(f"DELETE FROM {table} WHERE height >= ?", (lowest,))
            for block in applied:
                self._index(db, block)
            if forget_below > 0:
                db.execute(
                    "DELETE FROM blocks WHERE height < ? AND height > ?"
                    " AND id NOT IN (SELECT id FROM canonical)",
                    (forget_below, forget_below - 64),
                )

    def begin_at(self, sealed: SealedHeader) -> None:
        """Let an empty database begin with a block of which only the header is here."""
        with self._disk_errors(), self._write_lock, self._writer as db:
            db.execute("BEGIN IMMEDIATE")
            row = (sealed.block_id, sealed.height, sealed.encoded)
            db.execute("INSERT OR IGNORE INTO headers VALUES (?, ?, ?)", row)
            place = (sealed.height, sealed.block_id, sealed.proposer)
            db.execute("INSERT OR IGNORE INTO canonical VALUES (?, ?, ?)", place)

    def prune(self, below: int, at_most: int = 256) -> bool:
        """Drop blocks below a height, the lowest first; the headers of the best branch's stay.

        Transactions go with their blocks; what was recorded of jobs, and who proposed, stays.

        Args:
            at_most: heights dropped by this call, in one transaction.

        Returns:
            Whether there is more to drop.
        """
        with self._disk_errors(), self._write_lock, self._writer as db:
            db.execute("BEGIN IMMEDIATE")
            (first,) = db.execute("SELECT min(height) FROM blocks").fetchone()
            if first is None or first >= below:
                return False
            below, last = min(below, first + at_most), below
            query = "SELECT id, height, data FROM blocks JOIN canonical USING (id, height) WHERE height < ?"
            for block_id, height, data in db.execute(query, (below,)).fetchall():
                header = Block.decode(data).sealed.encoded
                db.execute("INSERT OR IGNORE INTO headers VALUES (?, ?, ?)", (block_id, height, header))
            for table in ("blocks", "txs", "touched"):
                db.execute(f"DELETE FROM {table} WHERE height < ?", (below,))
        return below < last

    def _index(self, db: sqlite3.Connection, block: Block) -> None:
        db.execute(
            "INSERT INTO canonical VALUES (?, ?, ?)", (block.height, block.block_id, block.sealed.proposer)
        )
        for position, tx in enumerate(block.body.txs):
            db.execute("INSERT INTO txs VALUES (?, ?, ?, ?)", (tx.id, block.height, position, tx.encoded))
            db.executemany(
                "INSERT INTO touched VALUES (?, ?, ?)",
                [(what, block.height, position) for what in touched_by(tx)],
            )
        db.executemany(
            "INSERT INTO rounds VALUES (?, ?, ?, ?)",
            [(record.job, record.round, block.height, record.encode()) for record in block.body.records],
        )

    # -- reading ---------------------------------------------------------------------------------------

    def replay(self, above: int = 0) -> Iterator[Block]:
        """All stored blocks above a height, parents before children.

        Raises:
            UserError: a block is damaged.
        """
        heights = self._rows("SELECT DISTINCT height FROM blocks WHERE height > ? ORDER BY height", above)
        for (height,) in heights:
            for (data,) in self._rows("SELECT data FROM blocks WHERE height = ? ORDER BY id", height):
                try:
                    yield Block.decode(data)
                except InvalidError as error:
                    raise self.damaged(f"a block at height {height} is unreadable") from error

    def best_branch(self, above: int = 0) -> Iterator[Block]:
        """The blocks of the best branch as it is now above a height; what is written meanwhile does not show.

        Raises:
            UserError: a block is damaged.
        """
        query = (
            "SELECT canonical.height, data FROM canonical JOIN blocks USING (id)"
            " WHERE canonical.height > ? ORDER BY canonical.height"
        )
        with self._disk_errors(), closing(self._connect()) as db:
            for height, data in db.execute(query, (above,)):
                try:
                    yield Block.decode(data)
                except InvalidError as error:
                    raise self.damaged(f"the block at height {height} is unreadable") from error

    def block(self, block_id: bytes) -> bytes | None:
        """A stored block by id, encoded."""
        return self._value("SELECT data FROM blocks WHERE id = ?", block_id)

    def sealed(self, block_id: bytes) -> bytes | None:
        """A sealed header by the block's id, encoded, also where the block was dropped.

        The body, which may be large, is not read.

        Raises:
            UserError: the block is damaged.
        """
        with self._disk_errors(), self._read_lock:
            row = self._reader.execute("SELECT rowid FROM blocks WHERE id = ?", (block_id,)).fetchone()
            if row is None:
                dropped = self._reader.execute(
                    "SELECT data FROM headers WHERE id = ?", (block_id,)
                ).fetchone()
                return None if dropped is None else bytes(dropped[0])
            with self._reader.blobopen("blocks", "data", row[0], readonly=True) as data:
                begin = data.read(min(len(data), MAX_SEALED_BYTES + PAIR_BYTES))
        try:
            return split(begin)[0]
        except InvalidError as error:
            raise self.damaged(f"the block {block_id.hex()[:16]} is unreadable") from error

    def block_at(self, height: int) -> bytes | None:
        """The block of the best branch at a height, encoded."""
        query = "SELECT data FROM blocks WHERE id = (SELECT id FROM canonical WHERE height = ?)"
        return self._value(query, height)

    def canonical_id(self, height: int) -> bytes | None:
        """The id at a height of the best branch."""
        return self._value("SELECT id FROM canonical WHERE height = ?", height)

    def ids_below(self, height: int) -> tuple[int, list[bytes]]:
        """The best branch's ids below a height, ascending, and the height of the first of them."""
        rows = self._rows("SELECT height, id FROM canonical WHERE height < ? ORDER BY height", height)
        return (rows[0][0] if rows else height), [block_id for _, block_id in rows]

    def lowest_body(self) -> int | None:
        """The lowest height of which blocks are here whole; None without any block."""
        rows = self._rows("SELECT min(height) FROM blocks")
        return None if rows[0][0] is None else int(rows[0][0])

    def head_id(self) -> bytes | None:
        """The id of the best branch's tip; None before the first block."""
        return self._value("SELECT id FROM canonical ORDER BY height DESC LIMIT 1")

    def tx(self, tx_id: bytes) -> IncludedTx | None:
        """A transaction of the best branch."""
        found = self._txs("WHERE id = ?", tx_id)
        return found[0] if found else None

    def history(self, what: bytes, limit: int = 100) -> list[IncludedTx]:
        """The newest transactions that an account took part in, or that belong to a job, newest first.

        Args:
            what: 32-byte account or job id.
        """
        return self._txs(
            "JOIN touched USING (height, position) WHERE what = ?"
            " ORDER BY height DESC, position DESC LIMIT ?",
            what,
            limit,
        )

    def settlements(self, job: bytes, round_: int) -> list[IncludedTx]:
        """The transactions of the best branch that may have paid for a round of a job or for a later one.

        Before its record no round is paid while the job goes on. Blocks that are not here are not looked at.
        """
        return self._txs(
            "JOIN touched USING (height, position) WHERE what = ? AND height >="
            " coalesce((SELECT rounds.height FROM rounds WHERE job = ? AND round = ?), 0)",
            job,
            job,
            round_,
        )

    def rounds(self, job: bytes) -> list[IncludedRound]:
        """The round records of a job in order."""
        rows = self._rows("SELECT data, height FROM rounds WHERE job = ? ORDER BY round", job)
        return [IncludedRound(RoundRecord.decode(data), height) for data, height in rows]

    def proposed(self, account: bytes) -> int:
        """How many blocks of the best branch an account proposed."""
        return int(self._rows("SELECT count(*) FROM canonical WHERE proposer = ?", account)[0][0])

    def damaged(self, what: str) -> DamagedChain:
        """The error that tells the operator what to do about a damaged file."""
        return DamagedChain(
            f"the chain database {self.path} is damaged: {what}",
            "start the node again: it sets the file aside and fetches the chain from its peers",
        )

    def _txs(self, where: str, *values: bytes | int) -> list[IncludedTx]:
        rows = self._rows(f"SELECT txs.data, txs.height, txs.position FROM txs {where}", *values)
        return [IncludedTx(Tx.decode(data), height, position) for data, height, position in rows]

    def _rows(self, query: str, *values: bytes | int) -> list[tuple[Any, ...]]:
        with self._disk_errors(), self._read_lock:
            return self._reader.execute(query, values).fetchall()

    def _value(self, query: str, *values: bytes | int) -> bytes | None:
        rows = self._rows(query, *values)
        return rows[0][0] if rows else None

    # -- the file --------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=10.0, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        return db

    def _check_owner(self) -> None:
        with self._writer as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT OR IGNORE INTO meta VALUES ('chain_id', ?)", (self._chain_id,))
            db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (FORMAT.to_bytes(1, "big"),))
            facts = dict(db.execute("SELECT key, value FROM meta").fetchall())
        if facts["format"] != FORMAT.to_bytes(1, "big"):
            raise UserError(
                f"the chain database {self.path} was made by another version",
                "move it away: the chain is fetched again from peers",
            )
        if facts["chain_id"] != self._chain_id:
            raise UserError(
                f"the chain database {self.path} belongs to another chain ({facts['chain_id'].hex()[:16]},"
                f" the genesis file says {self._chain_id.hex()[:16]})",
                "use the genesis file of that chain, or a home of its own for this one",
                ExitCode.BAD_CONFIG,
            )

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise UserError(
                f"the chain database {self.path} cannot be used: {error}",
                "check free space, the folder's owner, and that no other node uses this home",
            ) from error
        except sqlite3.DatabaseError as error:
            raise self.damaged(str(error)) from error
        except OSError as error:
            raise UserError(
                f"the chain database {self.path} cannot be opened: {error.strerror or error}",
                "check the folder's owner and free space",
            ) from error


def _set_aside(path: Path, error: DamagedChain) -> Path:
    """Rename a database and what sqlite keeps beside it, and return its new name. Raises OSError."""
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.replace(kept)
    for suffix in ("-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.replace(kept.with_name(kept.name + suffix))
    log.error("%s; it is kept as %s, and the chain is fetched from peers", error.cause, kept.name)
    return kept


def touched_by(tx: Tx) -> set[bytes]:
    """The accounts and the job that a transaction concerns: under these it is found in `history`."""
    found = {tx.sender}
    match tx.payload:
        case Transfer(to=to):
            found.add(to)
        case Register(account=account):
            found.add(account)
        case JobOpen():
            found.add(tx.id)
        case JobSettle(job=job, receipts=receipts) | JobClaim(job=job, receipts=receipts):
            found |= {job, *(entry.receipt.commitment.trainer for entry in receipts)}
        case JobCancel(job=job):
            found.add(job)
    return found
