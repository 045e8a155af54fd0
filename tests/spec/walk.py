"""Canonical msgpack taken apart by hand, so that a page can say which bytes are which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_SIZED = {
    0xC4: ("bin8", 1), 0xC5: ("bin16", 2), 0xC6: ("bin32", 4), 0xD9: ("str8", 1), 0xDA: ("str16", 2),
    0xDB: ("str32", 4), 0xDC: ("array16", 2), 0xDD: ("array32", 4),
}  # fmt: skip
_UINTS = {0xCC: ("uint8", 1), 0xCD: ("uint16", 2), 0xCE: ("uint32", 4), 0xCF: ("uint64", 8)}


@dataclass(frozen=True)
class Part:
    """One object of an encoding.

    Args:
        offset: of its first byte.
        head: bytes of type and length before the content; all bytes of an integer or a boolean.
        end: offset behind its last byte.
        kind: msgpack's name for it, with the length.
        value: as Python has it; arrays are tuples.
        items: the parts of an array.
    """

    offset: int
    head: int
    end: int
    kind: str
    value: Any
    items: tuple[Part, ...] = ()


def walk(data: bytes) -> Part:
    """The parts of one encoded object. Raises ValueError for what the chain's codec does not write."""
    part = _part(data, 0)
    if part.end != len(data):
        raise ValueError(f"{len(data) - part.end} bytes too many")
    return part


def _part(data: bytes, at: int) -> Part:
    first = data[at]
    if first < 0x80:
        return Part(at, 1, at + 1, "fixint", first)
    if first in (0xC2, 0xC3):
        return Part(at, 1, at + 1, "bool", first == 0xC3)
    if first in _UINTS:
        kind, width = _UINTS[first]
        return Part(at, 1 + width, at + 1 + width, kind, int.from_bytes(data[at + 1 : at + 1 + width], "big"))
    if 0x90 <= first < 0xA0:
        return _array(data, at, 1, "fixarray", first & 15)
    if 0xA0 <= first < 0xC0:
        return _bytes(data, at, 1, "fixstr", first & 31)
    if first not in _SIZED:
        raise ValueError(f"byte {first:02x} at {at} begins nothing that is allowed")
    kind, width = _SIZED[first]
    count = int.from_bytes(data[at + 1 : at + 1 + width], "big")
    read = _array if kind.startswith("array") else _bytes
    return read(data, at, 1 + width, kind, count)


def _bytes(data: bytes, at: int, head: int, kind: str, count: int) -> Part:
    content = data[at + head : at + head + count]
    value: Any = content.decode() if "str" in kind else content
    return Part(at, head, at + head + count, f"{kind} {count}", value)


def _array(data: bytes, at: int, head: int, kind: str, count: int) -> Part:
    items: list[Part] = []
    end = at + head
    for _ in range(count):
        items.append(_part(data, end))
        end = items[-1].end
    return Part(at, head, end, f"{kind} {count}", tuple(item.value for item in items), tuple(items))
