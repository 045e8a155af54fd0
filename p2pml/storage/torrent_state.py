"""What a node keeps about one torrent beside its pieces: `state.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pml.storage.payload import Stamp
from torrent.metainfo import Metainfo
from torrent.priorities import NORMAL, UNWANTED, ByteRange, Priorities


@dataclass(slots=True)
class TorrentState:
    """What `state.json` keeps.

    Args:
        wanted: indexes of the files to fetch, wholly or in part; None for all of them.
        levels: priorities of wanted files, where they are not the usual one.
        ranges: byte ranges whose priority differs from their file's.
        references: files seeded in place, by index; then nothing is ever fetched.
        allowed: the only peers that may fetch it; None for everybody.
        providers: peers to ask first, base58 ids.
        stamps: finished files as they were left.
        received, sent: payload bytes by peer id.
        paused: neither fetched nor served until its user resumes it.
        addresses: ordinary BitTorrent clients to dial, by their names `tcp:<ip>:<port>`.
    """

    wanted: frozenset[int] | None = None
    references: dict[int, Path] = field(default_factory=dict)
    allowed: frozenset[str] | None = None
    providers: tuple[str, ...] = ()
    stamps: dict[int, Stamp] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    paused: bool = False
    addresses: tuple[str, ...] = ()
    levels: dict[int, int] = field(default_factory=dict)
    ranges: tuple[ByteRange, ...] = ()

    @property
    def priorities(self) -> Priorities:
        """What is wanted, and how much."""
        if self.wanted is None:
            return Priorities(dict(self.levels), NORMAL, self.ranges)
        files = {file: self.levels.get(file, NORMAL) for file in self.wanted}
        return Priorities(files, UNWANTED, self.ranges)

    def prioritize(self, metainfo: Metainfo, priorities: Priorities) -> None:
        """Set `wanted`, `levels` and `ranges`."""
        partly = {range_.file for range_ in priorities.ranges if range_.priority}
        files = {i: priorities.of(i) for i, file in enumerate(metainfo.files) if not file.pad}
        wanted = {index for index, level in files.items() if level or index in partly}
        self.wanted = None if len(wanted) == len(files) else frozenset(wanted)
        self.levels = {index: files[index] for index in wanted if files[index] != NORMAL}
        self.ranges = priorities.ranges

    def to_json(self) -> bytes:
        """UTF-8 JSON, keys sorted."""
        table: dict[str, Any] = {
            "version": 1,
            "wanted": None if self.wanted is None else sorted(self.wanted),
            "references": {str(index): str(path) for index, path in self.references.items()},
            "allowed": None if self.allowed is None else sorted(self.allowed),
            "providers": list(self.providers),
            "stamps": {str(index): [stamp.size, stamp.mtime_ns] for index, stamp in self.stamps.items()},
            "received": dict(self.received),
            "sent": dict(self.sent),
            "paused": self.paused,
            "addresses": list(self.addresses),
            "levels": {str(index): level for index, level in self.levels.items()},
            "ranges": [list(range_) for range_ in self.ranges],
        }
        return json.dumps(table, sort_keys=True, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> TorrentState:
        """Raises ValueError when it is not what `to_json` wrote."""
        try:
            table = json.loads(data)
            if table["version"] != 1:
                raise ValueError(f"version {table['version']!r}")
            return cls(
                None if table["wanted"] is None else frozenset(map(int, table["wanted"])),
                {int(index): Path(path) for index, path in table["references"].items()},
                None if table["allowed"] is None else frozenset(map(str, table["allowed"])),
                tuple(map(str, table["providers"])),
                {int(index): Stamp(*map(int, stamp)) for index, stamp in table["stamps"].items()},
                {str(peer): int(count) for peer, count in table["received"].items()},
                {str(peer): int(count) for peer, count in table["sent"].items()},
                bool(table.get("paused", False)),  # absent in files of older versions, as what follows
                tuple(map(str, table.get("addresses", ()))),
                {int(index): int(level) for index, level in table.get("levels", {}).items()},
                tuple(ByteRange(*map(int, range_)) for range_ in table.get("ranges", [])),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a torrent's state: {error}") from error
