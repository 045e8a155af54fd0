"""Canonical msgpack with fixed-position arrays: one object, one byte string.

Allowed are arrays, unsigned integers below 2^64, byte strings, text and booleans. Maps, floats,
negative integers, nil and extension types are refused, and so is any encoding that is not the one
that `pack` would produce: otherwise one transaction would have many ids.
"""

from __future__ import annotations

import msgpack  # type: ignore[import-untyped]

from chain.errors import ChainError, DecodeError

Item = int | bytes | str | bool | tuple["Item", ...]

MAX_INT = 2**64 - 1
MAX_DEPTH = 12
"""Deepest nesting in use is a block's settled receipts, nine arrays deep."""
MAX_ITEMS = 8192
"""Items of one array. The decoder allocates by the announced length, so it has to be bounded."""


def pack(obj: Item) -> bytes:
    """Encode canonically. Raises ChainError if the object holds anything that is not an Item."""
    problem = _problem(obj, MAX_DEPTH)
    if problem:
        raise ChainError(f"cannot encode: {problem}")
    return bytes(msgpack.packb(obj, use_bin_type=True))


def unpack(data: bytes, max_size: int) -> Item:
    """Decode one canonical object of at most `max_size` bytes. Raises DecodeError and nothing else."""
    if len(data) > max_size:
        raise DecodeError(f"{len(data)} bytes are more than the allowed {max_size}")
    try:
        obj: Item = msgpack.unpackb(
            data, raw=False, use_list=False, max_array_len=MAX_ITEMS, max_map_len=0, max_ext_len=0
        )
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise DecodeError(f"not msgpack: {type(error).__name__}: {error}") from None
    problem = _problem(obj, MAX_DEPTH)
    if problem:
        raise DecodeError(problem)
    if msgpack.packb(obj, use_bin_type=True) != data:
        raise DecodeError("not the canonical encoding")
    return obj


def split_pair(data: bytes) -> tuple[bytes, bytes]:
    """The encodings of the two items of a pair of our own, without decoding them.

    The second may be cut off. Raises DecodeError where there is no such pair.
    """
    reader = msgpack.Unpacker()
    reader.feed(data)
    try:
        count, begin = reader.read_array_header(), reader.tell()
        reader.skip()
    except (ValueError, msgpack.UnpackException) as error:
        raise DecodeError(f"not msgpack: {type(error).__name__}: {error}") from None
    if count != 2:
        raise DecodeError("not a pair")
    return data[begin : reader.tell()], data[reader.tell() :]


def _problem(obj: object, depth: int) -> str:
    kind = type(obj)
    if kind is tuple:
        if depth == 0:
            return f"nested deeper than {MAX_DEPTH}"
        if len(obj) > MAX_ITEMS:  # type: ignore[arg-type]
            return f"array of more than {MAX_ITEMS} items"
        for item in obj:  # type: ignore[attr-defined]
            # Most items need no call of their own: this is asked of all that is hashed, sent or received.
            if type(item) is bytes or (type(item) is int and 0 <= item <= MAX_INT):
                continue
            problem = _problem(item, depth - 1)
            if problem:
                return problem
        return ""
    if kind is int:
        return "" if 0 <= obj <= MAX_INT else "integer outside 0..2^64-1"  # type: ignore[operator]
    if kind is bytes or kind is str or kind is bool:
        return ""
    return f"{kind.__name__} is not allowed"


def array(item: Item, length: int, what: str) -> tuple[Item, ...]:
    """The fields of a fixed-position array."""
    if not isinstance(item, tuple) or len(item) != length:
        raise DecodeError(f"{what} must be an array of {length} fields")
    return item


def items(item: Item, max_items: int, what: str) -> tuple[Item, ...]:
    """A list of up to `max_items` items."""
    if not isinstance(item, tuple):
        raise DecodeError(f"{what} must be an array")
    if len(item) > max_items:
        raise DecodeError(f"{what} has {len(item)} items, at most {max_items} are allowed")
    return item


def uint(item: Item, what: str, low: int = 0, high: int = MAX_INT) -> int:
    """An integer in low..high; a boolean is not one."""
    if type(item) is not int or not low <= item <= high:
        raise DecodeError(f"{what} must be an integer in {low}..{high}")
    return item


def octets(item: Item, length: int, what: str) -> bytes:
    """A byte string of exactly `length` bytes."""
    if not isinstance(item, bytes) or len(item) != length:
        raise DecodeError(f"{what} must be {length} bytes")
    return item


def octets_upto(item: Item, max_length: int, what: str) -> bytes:
    """A byte string of at most `max_length` bytes."""
    if not isinstance(item, bytes) or len(item) > max_length:
        raise DecodeError(f"{what} must be at most {max_length} bytes")
    return item


def text(item: Item, max_bytes: int, what: str) -> str:
    """Text of at most `max_bytes` UTF-8 bytes without control characters.

    Control characters are refused because this text ends on terminals. The ranges are written out:
    `str.isprintable` follows the interpreter's Unicode version, which nodes need not share.
    """
    if not isinstance(item, str) or len(item.encode()) > max_bytes:
        raise DecodeError(f"{what} must be text of at most {max_bytes} bytes")
    if any(ord(char) < 0x20 or 0x7F <= ord(char) <= 0x9F for char in item):
        raise DecodeError(f"{what} must not hold control characters")
    return item


def flag(item: Item, what: str) -> bool:
    """A boolean."""
    if not isinstance(item, bool):
        raise DecodeError(f"{what} must be a boolean")
    return item
