"""What is inside the tar files of a dataset: read from their headers in place, nothing is extracted."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

from p2pml.errors import UserError
from p2pml.storage.piece_store import PieceStore
from torrent.errors import TarError
from torrent.tar import RECORD, Member, index_tar, is_tar

_WINDOW = 16 * 1024
"""Bytes read at once: small members' headers are near each other."""


@dataclass(slots=True)
class TarListing:
    """The first members of one tar file.

    Args:
        file: its number in the dataset.
        more: it has more members than were asked for.
        problem: why the listing ends early: a damaged archive, a file that changed; empty otherwise.
    """

    file: int
    members: list[Member] = field(default_factory=list)
    more: bool = False
    problem: str = ""


def list_tars(store: PieceStore, limit: int) -> list[TarListing]:
    """The first `limit` members of each tar file that is wholly here. Blocks for a read per header."""
    found = []
    for index, file in enumerate(store.metainfo.files):
        if file.pad or file.length < RECORD or not store.is_complete(index):
            continue
        listing = TarListing(index)
        try:
            if not is_tar(store.read_file(index, 0, RECORD)):
                continue
            _fill(listing, store, file.length, limit)
        except (TarError, UserError) as error:
            listing.problem = error.cause if isinstance(error, UserError) else str(error)
        found.append(listing)
    return found


def _fill(listing: TarListing, store: PieceStore, size: int, limit: int) -> None:
    window, start = b"", 0

    def read(offset: int, length: int) -> bytes:
        nonlocal window, start
        if not start <= offset <= offset + length <= start + len(window):
            start = offset
            window = store.read_file(listing.file, offset, min(max(length, _WINDOW), size - offset))
        return window[offset - start : offset - start + length]

    members = index_tar(read, size)
    listing.members.extend(islice(members, limit))
    listing.more = next(members, None) is not None
