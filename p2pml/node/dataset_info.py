"""What the data service tells about a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from p2pml.storage.piece_store import METAINFO_NAME, PieceStore
from torrent.events import PeerStats, SwarmStats
from torrent.priorities import ByteRange

MAP_CELLS = 64
_SLOWEST = 1.0
"""Bytes per second; below, a rate is only what is left of an earlier one."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One file: its number, its path in the torrent with `/`, bytes, whether it is wholly here, where, and
    its priority, 0 for one that is not wanted, except for `ranges` of it.
    """

    index: int
    path: str
    size: int
    complete: bool
    location: Path
    priority: int
    ranges: tuple[ByteRange, ...] = ()


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """A dataset of this node at one moment.

    Args:
        infohash: 20 bytes.
        name: the torrent's name.
        size: bytes of all files, padding left out.
        private: known only to the peers that its owner allows.
        in_place: seeded from the user's own files, which are never copied, moved or written.
        complete: every wanted file is here.
        have, wanted, pieces: pieces here, wanted pieces, pieces in all.
        missing: wanted pieces that are not here.
        copies: of the whole, here and among the connected peers: of the rarest piece there are as many as the
            integer part says, the fraction is the share of the pieces that have more; 0 while it is paused.
        eta_s: seconds until all that is wanted is here at the present rate, 0 when it is; None when nothing
            comes in.
        peers: peers that are connected for this dataset.
        links: each of them: pieces that it has, rates.
        clients: the programs that they say they are.
        paused: neither fetched nor served.
        infohash_v2: 32 bytes for a hybrid torrent, else empty.
        piece_map: at most 64 runs of pieces: `#` all here, `+` some, `.` none, `-` none and none wanted.
        rate_down, rate_up: payload bytes per second.
        received, sent: verified payload bytes by peer id, over all runs of this node.
        files: without pad files.
        folder: what the files' paths are relative to, for a dataset that was fetched or is a folder.
        torrent_file: the `.torrent` file.
        problem: what a person has to know; empty when all is well.
    """

    infohash: bytes
    name: str
    size: int
    private: bool
    in_place: bool
    complete: bool
    have: int
    wanted: int
    pieces: int
    missing: int
    copies: float
    eta_s: float | None
    peers: int
    links: tuple[PeerStats, ...]
    paused: bool
    infohash_v2: bytes
    piece_map: str
    rate_down: float
    rate_up: float
    received: dict[str, int]
    sent: dict[str, int]
    files: tuple[FileInfo, ...]
    folder: Path
    torrent_file: Path
    problem: str = ""
    clients: Mapping[str, str] = field(default_factory=dict)

    @property
    def hex(self) -> str:
        """The info-hash as people write it."""
        return self.infohash.hex()


def describe(
    store: PieceStore,
    stats: SwarmStats | None,
    received: dict[str, int],
    sent: dict[str, int],
    problem: str = "",
    clients: Mapping[str, str] | None = None,
) -> DatasetInfo:
    """The facts about a stored dataset; `stats` is None while its swarm does not run."""
    metainfo, wanted, priorities = store.metainfo, store.wanted_pieces(), store.state.priorities
    have = store.have
    missing = wanted - have
    rate_down = 0.0 if stats is None else stats.down_rate
    files = tuple(
        FileInfo(
            index,
            "/".join(file.path),
            file.length,
            store.is_complete(index),
            store.path_of(index),
            priorities.of(index),
            tuple(range_ for range_ in priorities.ranges if range_.file == index),
        )
        for index, file in enumerate(metainfo.files)
        if not file.pad
    )
    return DatasetInfo(
        infohash=metainfo.info_hash,
        name=metainfo.name,
        size=metainfo.content_length,
        private=store.state.allowed is not None,
        in_place=store.in_place,
        complete=store.is_complete(),
        have=len(have),
        wanted=len(wanted),
        pieces=metainfo.piece_count,
        missing=len(missing),
        copies=0.0 if stats is None else stats.copies,
        eta_s=_seconds_left(len(missing) * metainfo.piece_length, rate_down),
        peers=0 if stats is None else len(stats.peers),
        links=() if stats is None else stats.peers,
        paused=store.state.paused,
        infohash_v2=b"" if metainfo.v2 is None else metainfo.v2.info_hash,
        piece_map=piece_map(have, wanted, metainfo.piece_count),
        rate_down=rate_down,
        rate_up=0.0 if stats is None else stats.up_rate,
        received=received,
        sent=sent,
        files=files,
        folder=_folder(store, files),
        torrent_file=store.folder / METAINFO_NAME,
        problem=problem,
        clients=clients or {},
    )


def _seconds_left(size: int, rate: float) -> float | None:
    if not size:
        return 0.0
    return size / rate if rate >= _SLOWEST else None


def piece_map(have: frozenset[int], wanted: frozenset[int], count: int) -> str:
    """`DatasetInfo.piece_map`: one sign for each of up to 64 runs of pieces of about one length."""
    cells = min(count, MAP_CELLS)
    signs = []
    for cell in range(cells):
        run = range(cell * count // cells, (cell + 1) * count // cells)
        here = sum(piece in have for piece in run)
        if here:
            signs.append("#" if here == len(run) else "+")
        else:
            signs.append("." if any(piece in wanted for piece in run) else "-")
    return "".join(signs)


def _folder(store: PieceStore, files: tuple[FileInfo, ...]) -> Path:
    """The folder below which every file lies at its path; the store's own when there is none."""
    roots = {
        Path(*file.location.parts[: len(file.location.parts) - len(file.path.split("/"))]) for file in files
    }
    if len(roots) == 1:
        (root,) = roots
        if all(root.joinpath(*file.path.split("/")) == file.location for file in files):
            return root
    return store.folder
