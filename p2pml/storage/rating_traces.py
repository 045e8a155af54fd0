"""The traces of a node's rating windows on disk: there before a claim leaves, so that a node that was killed
can still reveal, serve and answer.

A file is one line of JSON, what the claim says, and 48 bytes for each leaf: episode, segment, digest.
"""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from chain.baseline.trace import Leaf
from p2pml.storage.journal import write_atomic

_LEAF = struct.Struct(">QQ32s")
_SUFFIX = ".trace"


class DamagedTrace(Exception):
    """A file that holds no trace; the message says which, and why."""


@dataclass(frozen=True, slots=True)
class KeptTrace:
    """What was trained in a window.

    Args:
        window: its first slot.
        challenge: 32 bytes that the training followed from.
        infohash: 20 bytes, of the data set.
        joules: spent; 0 when not told.
        leaves: in order.
    """

    window: int
    challenge: bytes
    infohash: bytes
    joules: int
    leaves: tuple[Leaf, ...]


class RatingTraces:
    """A folder with a file for each of the last windows.

    Args:
        folder: made when the first trace is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, trace: KeptTrace) -> None:
        """Put a trace on disk, synced. Raises OSError."""
        head = {
            "window": trace.window,
            "challenge": trace.challenge.hex(),
            "infohash": trace.infohash.hex(),
            "joules": trace.joules,
            "leaves": len(trace.leaves),
        }
        line = json.dumps(head, separators=(",", ":")).encode() + b"\n"
        body = b"".join(_LEAF.pack(leaf.episode, leaf.segment, leaf.digest) for leaf in trace.leaves)
        write_atomic(self._path(trace.window), line + body)

    def read(self, window: int) -> KeptTrace | None:
        """The trace of a window; None when nothing was trained in it here.

        Raises:
            DamagedTrace: its file is not what `write` wrote.
            OSError: it cannot be read.
        """
        path = self._path(window)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            line, _, body = data.partition(b"\n")
            head = json.loads(line)
            leaves = tuple(Leaf(*parts) for parts in _LEAF.iter_unpack(body))
            if head["window"] != window or head["leaves"] != len(leaves):
                raise ValueError("it is cut off, or of another window")
            challenge, infohash = bytes.fromhex(head["challenge"]), bytes.fromhex(head["infohash"])
            return KeptTrace(window, challenge, infohash, int(head["joules"]), leaves)
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise DamagedTrace(f"{path}: {error}") from error

    def forget_before(self, window: int) -> None:
        """Delete the traces of earlier windows."""
        for path in self._folder.glob(f"*{_SUFFIX}"):
            if path.stem.isdecimal() and int(path.stem) < window:
                with suppress(OSError):
                    path.unlink()

    def _path(self, window: int) -> Path:
        return self._folder / f"{window}{_SUFFIX}"
