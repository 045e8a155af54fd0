"""Watching the real code at work: what its decoder allows, and what it hashes.

Both are read from the arguments of running functions (`sys.setprofile`), so nothing of the chain is replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from chain import codec, crypto


@dataclass(frozen=True)
class Rule:
    """One thing that a decoder asked of one item.

    Args:
        owner: the class whose `from_item` or `decode` asked, or the function.
        what: how the decoder calls the item in its errors.
        item: the item.
        allowed: what it may be, in words.
    """

    owner: str
    what: str
    item: Any
    allowed: str


@dataclass(frozen=True)
class Hash:
    """One call of `chain.crypto.H`."""

    tag: str
    data: bytes
    digest: bytes


def number(value: int) -> str:
    """A number as a reader wants it: powers of two are written as such from 2^16 on."""
    for shown, offset in ((value, ""), (value + 1, "−1")):
        if shown >= 2**16 and shown & (shown - 1) == 0:
            power = str(shown.bit_length() - 1).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
            return f"2{power}{offset}"
    return f"{value:,}"


_RULES: dict[CodeType, Callable[[dict[str, Any]], str]] = {
    codec.uint.__code__: lambda a: f"{number(a['low'])}…{number(a['high'])}",
    codec.octets.__code__: lambda a: f"{a['length']} bytes",
    codec.octets_upto.__code__: lambda a: f"≤ {a['max_length']:,} bytes",
    codec.text.__code__: lambda a: f"text of ≤ {a['max_bytes']} bytes",
    codec.flag.__code__: lambda a: "true or false",
    codec.items.__code__: lambda a: f"≤ {a['max_items']:,} items",
}


def rules(decode: Callable[[], object]) -> list[Rule]:
    """What `decode` asks of every item that it reads."""
    found: list[Rule] = []

    def seen(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in _RULES:
            asked = dict(frame.f_locals)
            allowed = _RULES[frame.f_code](asked)
            found.append(Rule(_owner(frame.f_back), asked["what"], asked["item"], allowed))

    with _profile(seen):
        decode()
    return found


def hashes(run: Callable[[], object]) -> list[Hash]:
    """Every hash with a domain tag that `run` takes, in the order of the calls' ends."""
    found: list[Hash] = []

    def seen(frame: FrameType, event: str, result: object) -> None:
        if event == "return" and frame.f_code is crypto.H.__code__ and isinstance(result, bytes):
            found.append(Hash(frame.f_locals["tag"], b"".join(frame.f_locals["parts"]), result))

    with _profile(seen):
        run()
    return found


def _owner(frame: FrameType | None) -> str:
    while frame is not None:
        if frame.f_code.co_name in ("from_item", "decode") and isinstance(frame.f_locals.get("cls"), type):
            return str(frame.f_locals["cls"].__name__)
        if frame.f_code.co_name.startswith(("decode_", "read_")):
            return frame.f_code.co_name
        frame = frame.f_back
    return ""


@contextmanager
def _profile(seen: Callable[[FrameType, str, object], None]) -> Iterator[None]:
    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        yield
    finally:
        sys.setprofile(before)
