"""What an auditor found and the salt that seals it, on disk before the seal leaves: or a restart would leave
it without a way to open it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from chain.rating.items import Report
from p2pml.storage.journal import write_atomic


@dataclass(frozen=True, slots=True)
class AuditNote:
    """Of one window: its first slot, its draw (32 bytes), the salt (32 bytes), the reports by subject."""

    window: int
    draw: bytes
    salt: bytes
    reports: tuple[Report, ...]


class AuditNotes:
    """One file: the note of the latest window."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, note: AuditNote) -> None:
        """Put a note in place of the one before, synced. Raises OSError."""
        reports = [[report.subject.hex(), report.marks.hex()] for report in note.reports]
        entry = {"window": note.window, "draw": note.draw.hex(), "salt": note.salt.hex(), "reports": reports}
        write_atomic(self._path, json.dumps(entry).encode())

    def read(self, window: int, draw: bytes) -> AuditNote | None:
        """The note of a window with that draw; None where there is none that can be read."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            entry = json.loads(self._path.read_bytes())
            reports = tuple(Report(*map(bytes.fromhex, parts)) for parts in entry["reports"])
            note = AuditNote(
                int(entry["window"]), bytes.fromhex(entry["draw"]), bytes.fromhex(entry["salt"]), reports
            )
            return note if (note.window, note.draw) == (window, draw) else None
        return None
