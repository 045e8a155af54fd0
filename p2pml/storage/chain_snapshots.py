"""Snapshots of the chain's state on disk: one file each, whole or not there, the newest two.

A file is the line `p2pml snapshot 1`, then length-prefixed parts (u32, big-endian): 32 bytes of state root,
the manifest, the weight tables, the finality, a finality certificate (empty without one), and the runs of
buckets (`chain.snapshot`). Everything but the certificate is under the state root, so damage shows.

Methods block for a disk access: call them in a thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from chain.buckets import BUCKETS
from chain.certificate import Certificate
from chain.errors import InvalidSnapshot
from chain.genesis import Genesis
from chain.header import SealedHeader
from chain.snapshot import MAX_PART_BYTES, Assembly, Manifest, Snapshot
from chain.state import State
from p2pml.errors import UserError
from p2pml.storage.journal import write_atomic

log = logging.getLogger(__name__)

KEEP = 2
_MAGIC = b"p2pml snapshot 1\n"
_SUFFIX = ".snapshot"


@dataclass(frozen=True, slots=True)
class Stored:
    """A snapshot that was read: state, its block's header, and what made the block final if that is known."""

    state: State
    sealed: SealedHeader
    certificate: Certificate | None


class ChainSnapshots:
    """The snapshots of one chain.

    Args:
        folder: made when the first is written.
        genesis: the founding document.
    """

    def __init__(self, folder: Path, genesis: Genesis) -> None:
        self._folder, self._genesis = folder, genesis

    @classmethod
    def beside(cls, database: Path, genesis: Genesis) -> ChainSnapshots:
        """Those that belong to a chain's database file."""
        return cls(database.with_suffix(".snapshots"), genesis)

    def heights(self) -> list[int]:
        """The heights of the snapshots that are kept, newest first."""
        found = (path.name.removesuffix(_SUFFIX) for path in self._folder.glob(f"[0-9]*{_SUFFIX}"))
        return sorted((int(name) for name in found if name.isdigit()), reverse=True)

    def write(self, snapshot: Snapshot, certificate: Certificate | None = None) -> None:
        """Keep a snapshot, and of the older ones the newest.

        Raises:
            ChainError: the state is too large for one.
            UserError: it cannot be written.
        """
        manifest = snapshot.manifest
        proof = b"" if certificate is None else certificate.encoded
        fixed = (manifest.root, manifest.encoded, snapshot.tables, snapshot.finality, proof)
        data = bytearray(_MAGIC)
        for part in (*fixed, *snapshot.runs()):
            data += len(part).to_bytes(4, "big") + part
        try:
            write_atomic(self._path(manifest.place.height), bytes(data))
            for height in self.heights()[KEEP:]:
                self._path(height).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"no snapshot can be written to {self._folder}: {error.strerror or error}",
                "check free space and the folder's owner; without it the next start takes longer",
            ) from error

    def read(self, height: int) -> Stored:
        """A kept snapshot, checked.

        Raises:
            InvalidError: it is damaged, or of another chain.
            UserError: it cannot be read.
        """
        path = self._path(height)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(
                f"the snapshot {path} cannot be read: {error.strerror or error}", "check the folder's owner"
            ) from error
        parts = _parts(data)
        root, encoded, tables, finality, proof = (next(parts) for _ in range(5))
        manifest = Manifest.decode(encoded)
        manifest.check(self._genesis, root)
        if manifest.place.height != height:
            raise InvalidSnapshot("it is of another height than its name")
        assembly = Assembly(self._genesis, manifest)
        assembly.take_tables(tables)
        assembly.take_finality(finality)
        first = 0
        while first < BUCKETS:
            first += assembly.take_run(next(parts), first, BUCKETS - first)
        state = assembly.state()
        return Stored(state, manifest.sealed, _certificate(proof, state))

    def drop(self, height: int) -> None:
        """Forget a snapshot."""
        with suppress(OSError):
            self._path(height).unlink(missing_ok=True)

    def drop_all(self) -> None:
        """Forget them all."""
        for height in self.heights():
            self.drop(height)

    def _path(self, height: int) -> Path:
        return self._folder / f"{height:012d}{_SUFFIX}"


def _parts(data: bytes) -> Iterator[bytes]:
    """The parts after the first line. Raises InvalidSnapshot where the file ends too soon."""
    if not data.startswith(_MAGIC):
        raise InvalidSnapshot("it does not begin as one")
    at = len(_MAGIC)
    while True:
        size = int.from_bytes(data[at : at + 4], "big")
        part = data[at + 4 : at + 4 + size]
        if at + 4 > len(data) or len(part) < size or size > MAX_PART_BYTES:
            raise InvalidSnapshot("it ends in the middle")
        yield part
        at += 4 + size


def _certificate(data: bytes, state: State) -> Certificate | None:
    """The certificate of a file; checked, for the state root does not cover it. Raises InvalidError."""
    if not data:
        return None
    certificate = Certificate.decode(data)
    certificate.check(state)
    return certificate
