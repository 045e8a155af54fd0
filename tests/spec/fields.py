"""Which bytes of an encoding are which field: names, limits and meanings out of the code itself.

Names come from the tuple that the class's `to_item` (or `encoded`) writes, limits from watching the decoder,
meanings from the class's docstring; `meanings.py` has those that no docstring gives.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any

from tests.spec.meanings import MEANINGS
from tests.spec.walk import Part, walk
from tests.spec.watch import Rule, rules


@dataclass(frozen=True)
class Row:
    """One line of a byte table."""

    part: Part
    name: str
    allowed: str
    meaning: str


@dataclass(frozen=True)
class Member:
    """One item of an encoded array.

    Args:
        name: of the field.
        value: the object, or the list of objects, that the item encodes; None when nothing is known of it.
        each: where the whole encoding is a list of arrays, the names in each.
    """

    name: str
    value: Any
    each: tuple[str, ...] = ()


def rows(
    obj: Any,
    data: bytes,
    decode: Callable[[bytes], object],
    *,
    encoder: Callable[..., Any] | None = None,
    fold: Sequence[str] = (),
) -> list[Row]:
    """The byte table of an encoded object.

    Args:
        obj: the object.
        data: its encoding.
        decode: the real decoder; what it asks for becomes the limits.
        encoder: the function that has a `case` for the object's class, where the class has no `to_item`.
        fold: names of classes whose encodings stay one row.
    """
    return list(_Table(rules(lambda: decode(data)), fold).rows(walk(data), obj, encoder))


def members(obj: Any, encoder: Callable[..., Any] | None = None) -> list[Member]:
    """The items of an object's encoding, by the names that its code has for them; none if it has no tuple."""
    written = encoder or _writer(type(obj))
    if encoder is None and _by_its_fields(type(obj)):
        first = [Member("kind", None)] if hasattr(obj, "KIND") else []
        return first + [Member(each.name, getattr(obj, each.name)) for each in fields(obj)]
    if written is None:
        return []
    function = ast.parse(textwrap.dedent(inspect.getsource(written))).body[0]
    assert isinstance(function, ast.FunctionDef)
    me = function.args.args[0].arg
    body = _case(function, type(obj).__name__)
    assigned = _assigned(body)
    returned = _returned(body)
    scope = {**written.__globals__, me: obj}
    if isinstance(returned, ast.Tuple):
        return [Member(_name(item, me), _value(_resolved(item, assigned), scope)) for item in returned.elts]
    listed = _listed(returned)
    if (
        listed is not None
        and isinstance(listed.elt, ast.Tuple)
        and isinstance(listed.generators[0].target, ast.Name)
    ):
        each = tuple(_name(item, listed.generators[0].target.id) for item in listed.elt.elts)
        return [Member(_name(returned, me), _value(returned, scope), each)]
    return [Member(_name(returned, me), None)]


class _Table:
    """Walks an object beside its encoding."""

    def __init__(self, asked: list[Rule], fold: Sequence[str]) -> None:
        self._asked = asked
        self._fold = fold

    def rows(self, part: Part, obj: Any, encoder: Callable[..., Any] | None, name: str = "") -> list[Row]:
        """Those of an object's array and of all that is in it."""
        inner = members(obj, encoder)
        if inner and "array" not in part.kind:
            return [Row(part, inner[0].name, "", meaning(type(obj), inner[0].name))]
        where = f"{name}." if name else ""
        found = [] if name else [Row(part, "", "", summary(type(obj)))]
        if inner and inner[0].each:
            return found + list(_listing(part, inner[0]))
        if len(inner) == 1 and _by_its_fields(type(obj)):  # that field alone, without an array around it
            return found[1:] + self._member(part, inner[0], where + inner[0].name, type(obj))
        for item, member in zip(part.items, inner, strict=True):
            found += self._member(item, member, where + member.name, type(obj))
        return found

    def _member(self, part: Part, member: Member, name: str, owner: type) -> list[Row]:
        value = member.value
        allowed = self._allowed(part, member.name, owner.__name__)
        said = meaning(owner, member.name)
        if _encodes(value):
            row = Row(part, name, allowed, said or summary(type(value)))
            folded = type(value).__name__ in self._fold
            return [row] if folded else [row, *self.rows(part, value, None, name)]
        if member.name == "kind":  # written as a constant
            return [Row(part, name, "", said or "says what this is")]
        found = [Row(part, name, allowed, said)]
        values = value if isinstance(value, tuple) and len(value) == len(part.items) else [None] * 10_000
        for place, (item, each) in enumerate(zip(part.items, values, strict=False)):
            label = f"{name}[{place}]"
            if _encodes(each) and type(each).__name__ not in self._fold:
                found += [Row(item, label, "", summary(type(each))), *self.rows(item, each, None, label)]
            else:
                said = summary(type(each)) if _encodes(each) else ""
                found.append(Row(item, label, self._allowed(item, member.name, owner.__name__), said))
        return found

    def _allowed(self, part: Part, name: str, owner: str) -> str:
        """What the decoder asked of an item of this value, of this name if it says one."""
        fits = [
            rule
            for rule in self._asked
            if type(rule.item) is type(part.value)
            and rule.item == part.value
            and (rule.owner == owner or rule.owner[:1].islower())
        ]
        named = [rule.allowed for rule in fits if _plain(rule.what) == _plain(name)]
        if named:
            return named[0]
        # Items of one value that were asked for different things cannot be told apart without a name.
        others = {rule.allowed for rule in fits}
        return others.pop() if len(others) == 1 else ""


def _listing(part: Part, member: Member) -> Iterator[Row]:
    """The rows of a list of arrays that have no class of their own on the wire."""
    for place, (item, each) in enumerate(zip(part.items, member.value, strict=True)):
        name = f"{member.name}[{place}]"
        yield Row(item, name, "", summary(type(each)))
        for inner, field in zip(item.items, member.each, strict=True):
            yield Row(inner, f"{name}.{field}", "", meaning(type(each), field))


def meaning(owner: type, name: str) -> str:
    """What a field is, from the `Args:` of its class or from `meanings.py`; empty if neither says it."""
    for described, words in _arguments(inspect.getdoc(owner) or "").items():
        if name in re.split(r",\s*", described):
            return words
    return MEANINGS.get(f"{owner.__name__}.{name}", "")


def summary(owner: type) -> str:
    """The first sentence of a class's docstring, or what `meanings.py` has for it."""
    if owner.__name__ in MEANINGS:
        return MEANINGS[owner.__name__]
    first = (inspect.getdoc(owner) or "").split("\n\n")[0].replace("\n", " ")
    return _sentence(first)


def _arguments(doc: str) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    section = re.search(r"^(?:Args|Attributes):\n((?:[ ]{4}.*\n?)+)", doc, re.MULTILINE)
    for line in section[1].splitlines() if section else ():
        begins = re.match(r"[ ]{4}(\w[\w, ]*): (.*)", line)
        if begins:
            name, found[begins[1]] = begins[1], begins[2].strip()
        elif name:
            found[name] += " " + line.strip()
    return {key: words.rstrip(".") for key, words in found.items()}


def _sentence(words: str) -> str:
    return re.split(r"(?<=[.;])\s", words)[0].rstrip(".;")


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").strip()


def _encodes(value: Any) -> bool:
    if not is_dataclass(value) or isinstance(value, type):
        return False
    return _writer(type(value)) is not None or _by_its_fields(type(value))


def _by_its_fields(owner: type) -> bool:
    """Whether `chain.fields` encodes a class by its fields in order, after its kind if it has one."""
    written = _writer(owner)
    if written is None:
        return owner.__module__.startswith("chain.rating.")
    return "fields.to_item(" in inspect.getsource(written)


def _writer(owner: type) -> Callable[..., Any] | None:
    written = inspect.getattr_static(owner, "to_item", None) or inspect.getattr_static(owner, "encoded", None)
    return written.func if isinstance(written, cached_property) else written


def _case(function: ast.FunctionDef, name: str) -> list[ast.stmt]:
    """The body of a function, or of its `case` for a class."""
    for node in ast.walk(function):
        if isinstance(node, ast.match_case) and any(
            isinstance(part, ast.Name) and part.id == name for part in ast.walk(node.pattern)
        ):
            return node.body
    return function.body


def _assigned(body: list[ast.stmt]) -> dict[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for statement in body:
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.value
        ):
            found[statement.target.id] = statement.value
        if not isinstance(statement, ast.Assign):
            continue
        target, value = statement.targets[0], statement.value
        if isinstance(target, ast.Name):
            found[target.id] = value
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, other in zip(target.elts, value.elts, strict=True):
                if isinstance(one, ast.Name):
                    found[one.id] = other
    return found


def _returned(body: list[ast.stmt]) -> ast.expr:
    """What is returned, without the packing."""
    value = next(statement.value for statement in body if isinstance(statement, ast.Return))
    while isinstance(value, ast.Call) and getattr(value.func, "id", "") in ("pack", "bytes"):
        value = value.args[0]
    assert value is not None
    return value


def _resolved(item: ast.expr, assigned: dict[str, ast.expr]) -> ast.expr:
    return assigned.get(item.id, item) if isinstance(item, ast.Name) else item


def _listed(item: ast.expr) -> ast.GeneratorExp | None:
    """The generator in `tuple(... for ...)`."""
    if isinstance(item, ast.Call) and getattr(item.func, "id", "") == "tuple" and item.args:
        return item.args[0] if isinstance(item.args[0], ast.GeneratorExp) else None
    return None


def _name(item: ast.expr, me: str) -> str:
    """The attribute of the object that an expression is about, or the local name."""
    if isinstance(item, ast.Name):
        return "kind" if item.id.isupper() else item.id.strip("_")
    for node in ast.walk(item):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == me:
            return node.attr
    return "kind"


def _value(item: ast.expr, scope: dict[str, Any]) -> Any:
    """The object, or the objects, that an expression encodes; None where it cannot be said."""
    if isinstance(item, ast.IfExp):
        chosen = eval(compile(ast.Expression(item.test), "<field>", "eval"), scope)
        item = item.body if chosen else item.orelse
    listed = _listed(item)
    if listed is not None:
        item = listed.generators[0].iter
    if isinstance(item, ast.Call) and isinstance(item.func, ast.Attribute) and item.func.attr == "to_item":
        item = item.func.value
    try:
        found = eval(compile(ast.Expression(item), "<field>", "eval"), scope)
    except NameError:
        return None
    return tuple(found) if isinstance(found, (list, tuple)) else found
