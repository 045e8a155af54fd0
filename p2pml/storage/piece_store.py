"""One torrent on disk: verified pieces in, blocks out, and a record of both that survives SIGKILL.

Layout of a torrent's folder:

    metainfo.torrent   the metainfo as it was given
    state.json         wanted files, where files seeded in place live, stamps of finished files, counters
    have               which pieces are on disk and verified (`have_journal`)
    marks              how unfinished files were left (`file_marks`)
    content/           the wanted files; absent for a torrent that is seeded in place
    parts/<index>      the bytes of an unwanted file that share a piece with a wanted one

A piece is hashed, written, synced, then journaled; so a crash costs at most the pieces in flight. At the next
start only what is not journaled but holds data is hashed again, and files that somebody else wrote to.

The functions here block: run them in a thread. Reads may run beside a write; writes of one torrent wait for
each other.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from p2pml.errors import UserError
from p2pml.storage.disk_errors import check_free, disk_errors, free_space
from p2pml.storage.file_marks import MARKS_NAME, FileMarks
from p2pml.storage.have_journal import HaveJournal
from p2pml.storage.journal import write_atomic
from p2pml.storage.payload import Payload, PayloadFile
from p2pml.storage.torrent_files import check_wanted, payload_files
from p2pml.storage.torrent_state import TorrentState
from torrent.errors import MetainfoError, RemoteError
from torrent.metainfo import Metainfo
from torrent.priorities import NORMAL, UNWANTED, Priorities

METAINFO_NAME = "metainfo.torrent"
_STATE_NAME = "state.json"

Progress = Callable[[int, int], None]
"""Called with (pieces done, pieces in all) from the working thread."""


class PieceStore:
    """The pieces of one torrent on disk; made by `create` or `open`.

    Attributes:
        metainfo: what the torrent is.
        state: kept in `state.json`; call `save` after changing it.
    """

    def __init__(
        self,
        folder: Path,
        metainfo: Metainfo,
        state: TorrentState,
        free_bytes: Callable[[Path], int] = free_space,
    ) -> None:
        self._free_bytes = free_bytes
        self.folder = folder
        self.metainfo = metainfo
        self.state = state
        files = payload_files(metainfo)
        self._payload = Payload(folder, files, state.references, self._placed_at_start(files))
        self._payload.stamps = state.stamps
        self._marks = FileMarks(folder / MARKS_NAME, self._payload)
        self._journal = HaveJournal(folder / "have", self.metainfo.piece_count)
        self._lock = threading.RLock()

    @classmethod
    def create(
        cls,
        folder: Path,
        metainfo: Metainfo,
        state: TorrentState,
        have: Iterable[int] = (),
        free_bytes: Callable[[Path], int] = free_space,
    ) -> PieceStore:
        """Make the folder of a new torrent.

        Args:
            folder: must not exist or be what an earlier `create` left unfinished.
            have: pieces that are known to be good, of a torrent that is seeded in place.
            free_bytes: tells the free space of a folder's disk.

        Raises:
            UserError: the disk is too full, or the folder cannot be made.
        """
        with disk_errors(folder, metainfo.name):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_atomic(folder / _STATE_NAME, state.to_json())
            store = cls(folder, metainfo, state, free_bytes)
        try:
            store.check_space()
            with disk_errors(folder, metainfo.name):
                store._journal.add(have)
                if not state.references:
                    store._place(store._wanted_files())
                write_atomic(folder / METAINFO_NAME, metainfo.raw)  # last: without it a folder is no torrent
        except UserError:
            store.close()
            raise
        return store

    @classmethod
    def open(cls, folder: Path, free_bytes: Callable[[Path], int] = free_space) -> PieceStore:
        """Open the folder of a torrent; `recover` has to follow before it is used.

        Raises:
            UserError: its files are damaged, or cannot be read and written.
        """
        try:
            metainfo = Metainfo.parse((folder / METAINFO_NAME).read_bytes())
            state = TorrentState.from_json((folder / _STATE_NAME).read_bytes())
            return cls(folder, metainfo, state, free_bytes)
        except (FileNotFoundError, ValueError, RemoteError) as error:
            raise _damaged(folder, error) from error
        except OSError as error:
            raise UserError(
                f"the stored data set in {folder} cannot be used: {error.strerror or error}",
                "make the folder writable for the node and check its disk; nothing that is stored was lost",
            ) from error

    @property
    def have(self) -> frozenset[int]:
        """Pieces that are on disk and verified."""
        return self._journal.have

    @property
    def have_count(self) -> int:
        """How many pieces are here."""
        return len(self._journal)

    @property
    def in_place(self) -> bool:
        """Whether it is seeded from the user's own files."""
        return bool(self.state.references)

    @property
    def files(self) -> tuple[PayloadFile, ...]:
        return self._payload.files

    def read(self, index: int, begin: int, length: int) -> bytes:
        """A block of a piece that is here.

        Raises:
            UserError: the file is gone, unreadable or was changed.
        """
        return self._payload.read(index * self.metainfo.piece_length + begin, length)

    def read_many(self, ranges: Iterable[tuple[int, int, int]]) -> list[bytes | UserError]:
        """For each range, given as to `read`, what that returns or raises."""
        return [self._read_or_tell(*each) for each in ranges]

    def _read_or_tell(self, index: int, begin: int, length: int) -> bytes | UserError:
        try:
            return self.read(index, begin, length)
        except UserError as error:
            return error

    def read_file(self, index: int, offset: int, length: int) -> bytes:
        """A range of a file. Raises UserError as `read`."""
        return self._payload.read(self.files[index].start + offset, length)

    def write(self, index: int, data: bytes | bytearray) -> bool:
        """Verify a piece and keep it; False when its hash is wrong, then nothing was written.

        Raises:
            UserError: the disk is full or cannot be written; nothing is lost.
        """
        return self.write_many([(index, data)])[0]

    def write_many(self, pieces: Sequence[tuple[int, bytes | bytearray]]) -> list[bool]:
        """Verify pieces, given as (index, bytes), and keep the good ones, synced together.

        Returns:
            For each whether its hash was right.

        Raises:
            UserError: the disk is full or cannot be written, or the metainfo contradicts itself; none of
                them counts, nothing older is lost.
        """
        verdicts = [self._has_hash(index, data) for index, data in pieces]
        good = [piece for piece, right in zip(pieces, verdicts, strict=True) if right]
        if good:
            # files are sparse: whatever was promised at the start, somebody else may have filled the disk
            self._check_free(sum(len(data) for _, data in good))
            with self._lock, disk_errors(self.folder, self.metainfo.name):
                self._keep(good)
        return verdicts

    def _keep(self, pieces: Sequence[tuple[int, bytes | bytearray]]) -> None:
        size = self.metainfo.piece_length
        files = self._files_of(index for index, _ in pieces)
        self._marks.writing(files)
        try:
            self._payload.write((index * size, data) for index, data in pieces)
            self._journal.add(index for index, _ in pieces)
        finally:
            self._note(files)

    def recover(self, progress: Progress | None = None) -> frozenset[int]:
        """After `open`: drop what changed, verify what holds data but is not journaled; returns what is here.

        Args:
            progress: told of the pieces that are hashed, if any are.

        Raises:
            UserError: the disk cannot be read or written.
        """
        with self._lock, disk_errors(self.folder, self.metainfo.name):
            kept = self._journal.have - self._doubtful(self._real_files())
            suspects = sorted(self._holding_data() - kept)
            good = kept | set(self._verify(suspects, progress))
            if good != self._journal.have:
                self._journal.replace(good)
            self._note(index for index in self._real_files() if index not in self.state.stamps)
        return self._journal.have

    def drop_changed(self, pieces: Iterable[int]) -> frozenset[int]:
        """Before a write: hash the unfinished files of `pieces` anew that somebody else wrote to.

        Returns:
            Pieces that were here and are damaged.

        Raises:
            UserError: the disk cannot be read or written.
        """
        with self._lock, disk_errors(self.folder, self.metainfo.name):
            files = self._files_of(pieces)
            doubtful = sorted(self._doubtful(files) & self._journal.have)
            damaged = frozenset(doubtful).difference(self._verify(doubtful, None))
            if damaged:
                self._journal.replace(self._journal.have - damaged)
            if doubtful:
                self._note(files)
        return damaged

    def recheck(self, progress: Progress | None = None) -> frozenset[int]:
        """Hash everything that holds data anew; the pieces that are here. Finished files are stamped anew."""
        with self._lock, disk_errors(self.folder, self.metainfo.name):
            self.state.stamps.clear()
            self._journal.replace(self._verify(sorted(self._holding_data()), progress))
            self._note(self._real_files())
        return self._journal.have

    def set_wanted(self, wanted: frozenset[int] | None) -> None:
        """Choose the files to fetch; None for all. What is on disk stays there.

        Raises:
            UserError: an index that is no file, or too little space.
        """
        check_wanted(self.metainfo, wanted)
        self.set_priorities(self._wanting(wanted))

    def _wanting(self, wanted: frozenset[int] | None) -> Priorities:
        """These files at the priorities that they have, or at the usual one; no ranges."""
        now = self.state.priorities
        files = range(len(self.files)) if wanted is None else wanted
        return Priorities({index: now.of(index) or NORMAL for index in files}, UNWANTED)

    def set_priorities(self, priorities: Priorities) -> None:
        """Choose what to fetch, and what first. What is on disk stays there.

        Raises:
            UserError: too little space.
        """
        if self.in_place:
            return
        before = self.state.priorities
        self.state.prioritize(self.metainfo, priorities)
        try:
            self.check_space()
        except UserError:
            self.state.prioritize(self.metainfo, before)
            raise
        with self._lock, disk_errors(self.folder, self.metainfo.name):
            self._place(self._wanted_files())
            self.save()

    def wanted_pieces(self) -> frozenset[int]:
        """The pieces that the wanted files need."""
        if self.in_place or (self.state.wanted is None and not self.state.ranges):
            return frozenset(range(self.metainfo.piece_count))
        table = self.state.priorities.table(self.metainfo)
        return frozenset(index for index, level in enumerate(table) if level)

    def is_complete(self, index: int | None = None) -> bool:
        """Whether a file, or every wanted file, is wholly here."""
        needed = self.wanted_pieces() if index is None else self.metainfo.file_pieces(index)
        return all(piece in self._journal for piece in needed)

    def path_of(self, index: int) -> Path:
        """Where a file is on disk; it need not be complete."""
        return self._payload.location(index)

    def save(self) -> None:
        """Write `state.json`.

        Raises:
            OSError: the disk refuses.
        """
        with self._lock:
            write_atomic(self.folder / _STATE_NAME, self.state.to_json())

    def close(self) -> None:
        self._journal.close()

    def missing_space(self) -> int:
        """Bytes of disk that what is wanted will still take."""
        if self.in_place:
            return 0
        if self.state.ranges:
            return len(self.wanted_pieces() - self.have) * self.metainfo.piece_length
        return sum(
            max(0, self.files[index].length - self._payload.allocated(index))
            for index in self._wanted_files()
        )

    def check_space(self) -> None:
        """Raises UserError when the disk has too little room for what is still to come."""
        self._check_free(self.missing_space())

    def _check_free(self, missing: int) -> None:
        if missing:
            check_free(self.metainfo.name, self.folder, missing, self._free_bytes(self.folder))

    def _wanted_files(self) -> list[int]:
        if self.state.wanted is None:
            return self._real_files()
        return [index for index in sorted(self.state.wanted) if not self.files[index].pad]

    def _place(self, indexes: Iterable[int]) -> None:
        for index in indexes:
            self._payload.place(index)

    def _placed_at_start(self, files: tuple[PayloadFile, ...]) -> frozenset[int]:
        """Wanted files and those that an earlier choice left in `content/`."""
        content = self.folder / "content"
        return frozenset(
            index
            for index, file in enumerate(files)
            if not file.pad and os.path.lexists(content.joinpath(*file.path))
        )

    def _real_files(self) -> list[int]:
        return [index for index, file in enumerate(self.files) if not file.pad]

    def _files_of(self, pieces: Iterable[int]) -> set[int]:
        size = self.metainfo.piece_length
        parts = (self._payload.overlapping(piece * size, self.metainfo.piece_size(piece)) for piece in pieces)
        return {index for part in parts for index, _, _ in part if not self.files[index].pad}

    def _doubtful(self, files: Iterable[int]) -> set[int]:
        """Pieces of those of `files` that are gone, have another length, or were written to by others."""
        pieces: set[int] = set()
        for index in files:
            if self.files[index].length and self._marks.changed(index):
                pieces.update(self.metainfo.file_pieces(index))
                self.state.stamps.pop(index, None)
        return pieces

    def _holding_data(self) -> set[int]:
        """Pieces of which some byte may be on disk."""
        size = self.metainfo.piece_length
        return {
            piece
            for index in range(len(self.files))
            for low, high in self._payload.filled(index)
            for piece in range(low // size, -(-high // size))
        }

    def _verify(self, pieces: list[int], progress: Progress | None) -> list[int]:
        """Those of `pieces` whose bytes on disk have the right hash; hashing frees the interpreter's lock."""
        good = []
        with ThreadPoolExecutor(os.cpu_count() or 1, "recheck") as threads:
            for done, right in enumerate(threads.map(self._is_right, pieces), start=1):
                if right:
                    good.append(pieces[done - 1])
                if progress is not None:
                    progress(done, len(pieces))
        return good

    def _is_right(self, piece: int) -> bool:
        try:
            data = self._payload.read(piece * self.metainfo.piece_length, self.metainfo.piece_size(piece))
        except UserError:
            return False  # a file that is missing or short: the piece is simply not here
        return self._has_hash(piece, data)

    def _has_hash(self, piece: int, data: bytes | bytearray) -> bool:
        try:
            return self.metainfo.verify_piece(piece, data)
        except MetainfoError as error:
            raise UserError(
                f"the .torrent file of {self.metainfo.name} is a lie: {error}",
                "remove the data set and get another .torrent file from somebody you trust",
            ) from error

    def _note(self, files: Iterable[int]) -> None:
        """Remember how these files look now."""
        if self._marks.note(files, self.is_complete):
            self.save()


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"the stored data set in {folder} is damaged: {error}",
        "remove that folder and fetch the data set again",
    )
