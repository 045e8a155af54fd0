"""What `data get` is told to fetch: numbers, patterns and byte ranges of files, as people write them."""

from __future__ import annotations

import re
from typing import Any

from p2pml.errors import ExitCode, UserError

_RANGE = re.compile(r"(.+):(\d+)-(\d*)(?:=([0-7]))?", re.ASCII | re.DOTALL)


def file_choice(text: str) -> dict[str, Any]:
    """A pattern, with the priority that may stand behind the last `=`, as the API wants it.

    Raises:
        UserError: it is none.
    """
    pattern, equals, number = text.rpartition("=")
    if not equals or not (number.isascii() and number.isdigit()):
        pattern, number = text, "4"
    if not pattern or len(number) > 1 or int(number) > 7:
        raise UserError(
            f"--file {text!r} is not a pattern with a priority of 0 to 7",
            "write it as 'train/*.bin' or 'train/*.bin=7'",
            ExitCode.USAGE,
        )
    return {"pattern": pattern, "priority": int(number)}


def range_choice(text: str) -> dict[str, Any]:
    """Bytes of a file, `FILE:START-END` with a priority that may follow `=`, as the API wants it.

    Raises:
        UserError: it is none.
    """
    found = _RANGE.fullmatch(text)
    if found is None:
        raise UserError(
            f"--range {text!r} is not bytes of a file with a priority of 0 to 7",
            "write it as 'all.bin:0-1000000', 'all.bin:1000000-' or 'all.bin:0-1000000=7'",
            ExitCode.USAGE,
        )
    pattern, begin, end, priority = found.groups()
    chosen = {"pattern": pattern, "begin": int(begin), "end": int(end) if end else None}
    return chosen | {"priority": int(priority or 4)}


def file_numbers(text: str | None) -> list[int] | None:
    """Numbers of files, `0,2,5`; None for none.

    Raises:
        UserError: it is no such list.
    """
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UserError(f"--files {text!r} is not a list of numbers", "write it as 0,2,5", ExitCode.USAGE)
    return [int(part) for part in parts]
