"""Fields of messages that come from anybody: each has a type and a bound, and nothing else is let in.

A message is a dataclass whose fields are made here; `accepts` says whether a value may be in one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import Field, field
from typing import Any

_Check = Callable[[Any], bool]


def _checked(check: _Check) -> Any:
    return field(metadata={"check": check})


def octets(length: int) -> Any:
    """Exactly so many bytes."""
    return _checked(lambda value: isinstance(value, bytes) and len(value) == length)


def data(most: int) -> Any:
    """At most so many bytes."""
    return _checked(lambda value: isinstance(value, bytes) and len(value) <= most)


def text(most: int) -> Any:
    """At most so many characters."""
    return _checked(lambda value: isinstance(value, str) and len(value) <= most)


def whole(most: int = 2**63 - 1, least: int = 0) -> Any:
    """An integer from `least` to `most`."""
    return _checked(lambda value: type(value) is int and least <= value <= most)


def real() -> Any:
    """A finite float."""
    return _checked(lambda value: type(value) is float and math.isfinite(value))


def wholes(most: int, below: int) -> Any:
    """At most so many integers from 0, each below `below`."""

    def check(value: Any) -> bool:
        return (
            isinstance(value, list | tuple)
            and len(value) <= most
            and all(type(item) is int and 0 <= item < below for item in value)
        )

    return _checked(check)


def names(most: int) -> Any:
    """At most so many strings, none longer than 128 characters."""

    def check(value: Any) -> bool:
        return (
            isinstance(value, list | tuple)
            and len(value) <= most
            and all(isinstance(item, str) and len(item) <= 128 for item in value)
        )

    return _checked(check)


def arguments() -> Any:
    """Up to 16 floats by name."""
    return _checked(
        lambda value: (
            isinstance(value, dict)
            and len(value) <= 16
            and all(isinstance(key, str) and type(item) is float for key, item in value.items())
        )
    )


def accepts(item: Field[Any], value: Any) -> bool:
    """Whether a message may have this value in this field."""
    return bool(item.metadata["check"](value))
