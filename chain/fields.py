"""Any frozen dataclass of the state as a canonical item, by its fields: a new field needs no work here.

A class is an array of its fields in the order of their definition; with one field only, that field alone.
None is the empty array, an enumeration its number; sets and dictionaries are sorted, a dictionary an array of
pairs. A class with `to_item` and `from_item` of its own is asked.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import IntEnum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from chain.codec import MAX_ITEMS, Item, array, flag, items, octets_upto, text, uint
from chain.errors import ChainError, DecodeError

T = TypeVar("T")

MAX_LEAF_BYTES = 1024 * 1024
"""Bytes of one string in an object; the messages around it are bounded closer."""


def to_item(value: Any, without: Iterable[str] = ()) -> Item:
    """The item of a value.

    Args:
        value: of the types that `from_item` knows.
        without: fields of the outermost dataclass that are left out.

    Raises:
        ChainError: there is no rule for a type.
    """
    if isinstance(value, IntEnum):
        return int(value)
    if value is None:
        return ()
    if isinstance(value, int | bytes | str):
        return value
    if isinstance(value, tuple):
        return tuple(map(to_item, value))
    if isinstance(value, frozenset):
        return tuple(map(to_item, sorted(value)))
    if isinstance(value, Mapping):
        return tuple((to_item(key), to_item(value[key])) for key in sorted(value))
    if hasattr(value, "to_item"):
        item: Item = value.to_item()
        return item
    if is_dataclass(value):
        names = [name for name, _ in _fields(type(value)) if name not in without]
        found = tuple(to_item(getattr(value, name)) for name in names)
        return found[0] if len(found) == 1 else found
    raise ChainError(f"there is no item for {type(value).__name__}")


def from_item(kind: type[T], item: Item, given: Mapping[str, Any] | None = None) -> T:
    """An object of a dataclass from its item.

    Args:
        kind: the dataclass.
        given: values of fields that are not in the item.

    Raises:
        DecodeError: the item is not that of such an object.
    """
    wanted = [(name, hint) for name, hint in _fields(kind) if name not in (given or {})]
    parts = (item,) if len(wanted) == 1 else array(item, len(wanted), kind.__name__)
    values = {
        name: _read(hint, part, f"{kind.__name__}.{name}")
        for (name, hint), part in zip(wanted, parts, strict=True)
    }
    return kind(**values, **(given or {}))


def _read(hint: Any, item: Item, what: str) -> Any:
    """A value of an annotated type. Raises DecodeError."""
    plain = _PLAIN.get(hint)
    if plain is not None:
        return plain(item, what)
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple:
        if inner[-1] is Ellipsis:
            return tuple(_read(inner[0], part, what) for part in items(item, MAX_ITEMS, what))
        parts = array(item, len(inner), what)
        return tuple(_read(each, part, what) for each, part in zip(inner, parts, strict=True))
    if origin is frozenset:
        return frozenset(_read(inner[0], part, what) for part in items(item, MAX_ITEMS, what))
    if origin is dict:
        pairs = [array(part, 2, what) for part in items(item, MAX_ITEMS, what)]
        return {_read(inner[0], key, what): _read(inner[1], value, what) for key, value in pairs}
    if origin in (Union, types.UnionType):
        (kind,) = (each for each in inner if each is not type(None))
        return None if item == () else _read(kind, item, what)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        try:
            return hint(uint(item, what))
        except ValueError:
            raise DecodeError(f"{what} is not one of {hint.__name__}") from None
    if hasattr(hint, "from_item"):
        return hint.from_item(item)
    if is_dataclass(hint):
        return from_item(hint, item)  # type: ignore[arg-type]
    raise ChainError(f"there is no rule for {what}: {hint}")


_PLAIN: dict[Any, Any] = {
    int: uint,
    bool: flag,
    bytes: lambda item, what: octets_upto(item, MAX_LEAF_BYTES, what),
    str: lambda item, what: text(item, MAX_LEAF_BYTES, what),
}


def _fields(kind: Any) -> tuple[tuple[str, Any], ...]:
    """Names and annotated types, in the order of definition."""
    found = _KNOWN.get(kind)
    if found is None:
        hints = get_type_hints(kind)
        found = _KNOWN[kind] = tuple((field.name, hints[field.name]) for field in fields(kind))
    return found


_KNOWN: dict[Any, tuple[tuple[str, Any], ...]] = {}
