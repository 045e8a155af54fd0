"""`peers.json` in the home: peers that were met, with their addresses, and bans. Written atomically; a file
that cannot be read is set aside, never fatal.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from p2pml.net.address_book import Known
from p2pml.net.bans import Ban
from p2pml.net.raw_host import is_peer_id

log = logging.getLogger(__name__)

VERSION = 1
MAX_BYTES = 4 << 20


def load(path: Path) -> tuple[list[Known], list[Ban]]:
    """What the file holds; nothing when there is none. One that is damaged is renamed to `….damaged`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        return _parse(data)
    except FileNotFoundError:
        return [], []
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        aside = path.with_name(path.name + ".damaged")
        log.warning(
            "the list of known peers %s cannot be used (%s); it is set aside as %s", path, error, aside.name
        )
        try:
            os.replace(path, aside)
        except OSError as failure:
            log.warning("it cannot be renamed either: %s", failure)
        return [], []


def save(path: Path, known: Iterable[Known], bans: Iterable[Ban]) -> None:
    """Replace the file, or leave it as it was.

    Raises:
        OSError: the disk.
    """
    table = {
        "version": VERSION,
        "peers": [
            {"id": entry.peer, "addresses": list(entry.addrs), "seen": entry.seen, "met": entry.met}
            for entry in known
        ],
        "bans": [
            {"id": ban.peer, "until": ban.until, "reason": ban.reason, "times": ban.times} for ban in bans
        ],
    }
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(table, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def _parse(data: bytes) -> tuple[list[Known], list[Ban]]:
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    table = json.loads(data)
    if table["version"] != VERSION:
        raise ValueError(f"its version is {table['version']!r}, not {VERSION}")
    known = [
        Known(
            _peer(item["id"]), tuple(map(_text, item["addresses"])), _time(item["seen"]), _time(item["met"])
        )
        for item in table["peers"]
    ]
    bans = [
        Ban(_peer(item["id"]), _time(item["until"]), _text(item["reason"]), _count(item["times"]))
        for item in table["bans"]
    ]
    return known, bans


def _peer(value: Any) -> str:
    if not is_peer_id(value):
        raise ValueError(f"{value!r:.80} is not a peer id")
    return str(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is not a text")
    return value


def _time(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < 1e11:
        raise ValueError(f"{value!r:.80} is not a time")
    return float(value)


def _count(value: Any) -> int:
    if type(value) is not int or not 1 <= value < 2**31:
        raise ValueError(f"{value!r:.80} is not a number of bans")
    return value
