"""Byte tables and worked values as Markdown, in a form that `test_recomputed.py` reads back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.spec.fields import Row
from tests.spec.walk import Part

WIDTH = 96
"""Hexadecimal digits in a line."""


def table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    rows = ["| " + " | ".join(map(str, cells)) + " |" for cells in (head, ["---"] * len(head), *lines)]
    return "\n".join(rows)


def byte_table(rows: Iterable[Row], data: bytes) -> str:
    """Offset, bytes, msgpack's type, field, limits, meaning."""
    lines = []
    for row in rows:
        name = f"`{row.name}`" if row.name else ""
        lines.append(
            (row.part.offset, f"`{_short(data, row.part)}`", row.part.kind, name, row.allowed, row.meaning)
        )
    return table(("at", "bytes", "msgpack", "field", "allowed", "meaning"), lines)


def _short(data: bytes, part: Part) -> str:
    """Type and length, then the content, whole up to 12 bytes, else its first four and last two."""
    head = data[part.offset : part.offset + part.head].hex()
    content = data[part.offset + part.head : part.end]
    if part.items or part.kind.startswith(("array", "fixarray")) or not content:
        return head
    return (
        f"{head} {content.hex()}"
        if len(content) <= 12
        else f"{head} {content[:4].hex()}…{content[-2:].hex()}"
    )


def hashed(tag: str, *parts: str) -> str:
    """The formula of `chain.crypto.H`, with the tag as it is hashed."""
    return f"SHA-256({' ‖ '.join((f'{len(tag):02x}', chr(34) + tag + chr(34), *parts))})"


def values(*entries: tuple[str, object] | str) -> str:
    """Worked values in a fence: `name = value`, bytes in hexadecimal; a text alone is a remark."""
    lines = ["```text"]
    for entry in entries:
        if isinstance(entry, str):
            lines.append(f"# {entry}")
            continue
        name, value = entry
        shown = value.hex() if isinstance(value, bytes) else str(value)
        if isinstance(value, bytes) and len(shown) > WIDTH + 32:
            lines.append(f"{name} =")
            lines += [f"  {shown[at : at + WIDTH]}" for at in range(0, len(shown), WIDTH)]
        else:
            lines.append(f"{name} = {shown}".rstrip())
    return "\n".join((*lines, "```"))
