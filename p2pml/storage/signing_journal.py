"""What this validator has signed, in a file beside the chain: on disk before a block or a vote leaves.

The chain can be fetched again from peers, this cannot. So it does not lie in the chain's database, whose
damage would take it along. The file is replaced whole and carries a checksum: a crash leaves the record
before or after a step, and damage does not pass for a record.

Methods block for a disk access: call them in a thread.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

from chain.codec import array, octets, octets_upto, pack, unpack
from chain.errors import InvalidError
from chain.signing import SigningRecord
from chain.votes import Vote
from p2pml.errors import UserError
from p2pml.storage.journal import write_atomic

_MAX_BYTES = 512
_SUM = 32


class SigningJournal:
    """The record of one validator on one chain. `open` first.

    Args:
        path: the file; `open` makes it.
        chain_id: 32 bytes.
    """

    def __init__(self, path: Path, chain_id: bytes) -> None:
        self._path, self._chain_id = path, chain_id
        self._lock = threading.Lock()
        self._record: SigningRecord | None = None

    def open(self, otherwise: SigningRecord) -> str:
        """Read the record.

        Args:
            otherwise: what holds where there is no readable record: an empty one for a validator that has
                signed nothing, `SigningRecord.unknown` for one that may have.

        Returns:
            What is wrong with the record; empty when there is a good one of this chain.

        Raises:
            UserError: the file cannot be read or written.
        """
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            trouble, record = "missing", otherwise
        except OSError as error:
            raise self._unusable(error) from error
        else:
            found = _decode(data, self._chain_id)
            trouble, record = ("", found) if found is not None else ("damaged, or another chain's", otherwise)
        self._record = record
        if trouble:
            self._write(record)
        return trouble

    def reserve_slot(self, slot: int) -> bool:
        """Write down that this node seals a block for `slot`, before it does.

        Returns:
            False when that slot or a later one was reserved before: sealing again could be equivocation.
        """
        return self._sign(lambda record: record.sealed(slot) if record.may_seal(slot) else None)

    def reserve_vote(self, vote: Vote) -> bool:
        """Write down that this node casts a vote, before it does.

        Returns:
            False when the vote could contradict one that was reserved before.
        """
        return self._sign(lambda record: record.voted(vote) if record.may_vote(vote) else None)

    def _sign(self, step: Callable[[SigningRecord], SigningRecord | None]) -> bool:
        with self._lock:
            assert self._record is not None, "open first"
            after = step(self._record)
            if after is None:
                return False
            self._write(after)
            self._record = after
            return True

    def _write(self, record: SigningRecord) -> None:
        content = pack((self._chain_id, record.encode()))
        try:
            write_atomic(self._path, content + hashlib.sha256(content).digest())
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> UserError:
        return UserError(
            f"the record of what was signed, {self._path}, cannot be used: {error.strerror or error}",
            "check free space and the folder's owner; without it a validator signs nothing",
        )


def _decode(data: bytes, chain_id: bytes) -> SigningRecord | None:
    content, digest = data[:-_SUM], data[-_SUM:]
    if hashlib.sha256(content).digest() != digest:
        return None
    try:
        owner, record = array(unpack(content, _MAX_BYTES), 2, "signing journal")
        if octets(owner, 32, "chain id") != chain_id:
            return None
        return SigningRecord.decode(octets_upto(record, _MAX_BYTES, "record"))
    except InvalidError:
        return None
