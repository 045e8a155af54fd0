"""What commands print: data on stdout, prose on stderr, colour only on a terminal and never under
NO_COLOR.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, TextIO

from p2pml.errors import ExitCode, UserError

UNITS_PER_TOKEN = 10**8
_STYLES = re.compile(r"(\x1b\[[0-9;]*m)")
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]+)?")
_BARS = "▁▂▃▄▅▆▇█"
_CONTROL = {code: "\ufffd" for code in [*range(32), *range(127, 160)] if code not in (9, 10)}


def say(text: str) -> None:
    """One line of prose, for people."""
    print(clean(text), file=sys.stderr, flush=True)


def emit(text: str) -> None:
    """Data: what a pipe behind this command reads."""
    print(clean(text), flush=True)


def emit_json(value: Any) -> None:
    """Data as JSON, readable by people too."""
    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)


def error(problem: UserError) -> None:
    """The cause in one line and the fix in another."""
    say(f"{styled('error:', '1;31', sys.stderr)} {problem.cause}")
    if problem.fix:
        say(f"  {styled('fix:', '1', sys.stderr)} {problem.fix}")


def clean(text: str) -> str:
    """The text without control characters: names come from strangers and must not steer a terminal."""
    return "".join(_keep_style(part) for part in _STYLES.split(text))


def styled(text: str, code: str, stream: TextIO | None = None) -> str:
    """The text in an SGR style where the stream shows it, else as it is."""
    return f"\x1b[{code}m{text}\x1b[0m" if _is_fancy(stream or sys.stdout) else text


def is_live(stream: TextIO | None = None) -> bool:
    """Whether a redrawn display makes sense on the stream (default stderr)."""
    stream = stream or sys.stderr
    return stream.isatty() and os.environ.get("TERM", "") != "dumb"


def columns(headers: Sequence[str], rows: Iterable[Sequence[object]], right: Iterable[int] = ()) -> str:
    """Rows aligned under their headers; the columns whose index is in `right` are aligned to the right."""
    table = [[_cell(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(headers), *table]) for i in range(len(headers))]
    rights = set(right)

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if i in rights else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    return "\n".join([styled(line(headers), "1"), *(line(row) for row in table)])


def fields(pairs: Iterable[tuple[str, object]]) -> str:
    """`name  value` lines, values aligned."""
    items = [(name, _cell(value)) for name, value in pairs]
    width = max((len(name) for name, _ in items), default=0)
    return "\n".join(f"{styled(name.ljust(width), '2')}  {value}" for name, value in items)


def tokens(units: int) -> str:
    """Base units as a number of tokens, without needless zeros: 150000000 → `1.5`."""
    whole, rest = divmod(abs(units), UNITS_PER_TOKEN)
    fraction = f"{rest:08d}".rstrip("0")
    return ("-" if units < 0 else "") + f"{whole:,}" + (f".{fraction}" if fraction else "")


def about(units: int) -> str:
    """Base units as tokens with two decimals, for displays that change while one looks."""
    return f"{units / UNITS_PER_TOKEN:,.2f}"


def parse_tokens(text: str) -> int:
    """A number of tokens as base units; commas stand between thousands, as `tokens` prints them.

    Raises:
        UserError: (code 2) not a positive number, finer than a base unit, or a comma stands elsewhere:
            without it, `1,5` would be fifteen.
    """
    if "," in text and not _THOUSANDS.fullmatch(text.strip()):
        raise UserError(
            f"{text!r} is not an amount of tokens",
            "decimals come after a point, as in 1.5; commas may only stand between thousands, as in 1,500",
            ExitCode.USAGE,
        )
    try:
        units = Decimal(text.replace(",", "")) * UNITS_PER_TOKEN
    except InvalidOperation:
        units = Decimal(-1)
    if not units.is_finite() or units <= 0 or units != units.to_integral_value() or units >= 2**64:
        raise UserError(
            f"{text!r} is not an amount of tokens",
            "give a positive number with at most 8 decimals",
            ExitCode.USAGE,
        )
    return int(units)


def size(count: float) -> str:
    """A number of bytes for people: 1536 → `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """The last values as small bars between their own minimum and maximum."""
    shown = list(values)[-width:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    span = high - low
    return "".join(_BARS[round((value - low) / span * 7)] if span else _BARS[3] for value in shown)


def short(identifier: str, length: int = 10) -> str:
    """The start of a long identifier."""
    return identifier if len(identifier) <= length + 1 else identifier[:length] + "…"


def _is_fancy(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") != "dumb"


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).translate(_CONTROL).replace("\n", " ")


def _keep_style(part: str) -> str:
    return part if part.startswith("\x1b[") and part.endswith("m") else part.translate(_CONTROL)
