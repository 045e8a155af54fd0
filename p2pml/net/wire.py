"""Messages between peers: msgpack behind a 32-bit big-endian length.

Peers may send nil, booleans, integers, floats, text, bytes, lists and maps with text or integer keys; nothing
else. What the chain hashes and signs has its own, stricter form: `chain.codec`.
"""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]

from p2pml.net.errors import Malformed

LENGTH_BYTES = 4
_SCALARS = (bool, int, float, str, bytes, type(None))


def encode(message: Any) -> bytes:
    """The bytes of `message` without the length.

    Raises:
        TypeError: an object that has no form on the wire: a mistake of ours.
    """
    return bytes(msgpack.packb(message, use_bin_type=True))


def frame(message: Any) -> bytes:
    """The bytes of `message` behind their length."""
    data = encode(message)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def decode(data: bytes) -> Any:
    """What `encode` was given, lists for tuples.

    Raises:
        Malformed: not exactly one message of plain values.
    """
    try:
        message = msgpack.unpackb(data, raw=False, strict_map_key=False)
        _check_plain(message)
    except Exception as error:  # msgpack has many errors, all of them the sender's fault
        raise Malformed(f"not a message: {type(error).__name__}") from error
    return message


def _check_plain(value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _check_plain(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise ValueError("a map's key must be text or an integer")
            _check_plain(item)
    elif not isinstance(value, _SCALARS):
        raise ValueError(f"{type(value).__name__} is not a plain value")
