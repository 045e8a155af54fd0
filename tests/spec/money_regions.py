"""docs/spec/presets.md: what may differ between networks and what may not; the books of rewards.md."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path

import chain
from chain.params import PRESETS, TOKEN, ChainParams
from tests.spec.example import story
from tests.spec.markdown import table
from tests.spec.watch import number

_LIMIT = r"^(MAX_\w+|[A-Z][A-Z_]*_BYTES) = "


def tokens(amount: int) -> str:
    """Base units as tokens, exactly."""
    whole, part = divmod(amount, TOKEN)
    return f"{whole:,}" + (f".{part:08d}".rstrip("0") if part else "")


def _documented(body: list[ast.stmt]) -> dict[str, str]:
    """The text under each definition of a constant or a field."""
    found: dict[str, str] = {}
    for one, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        target = one.target if isinstance(one, ast.AnnAssign) else None
        target = one.targets[0] if isinstance(one, ast.Assign) else target
        if isinstance(target, ast.Name):
            text = after.value if isinstance(after, ast.Expr) else None
            said = str(text.value) if isinstance(text, ast.Constant) else ""
            found[target.id] = inspect.cleandoc(said).replace("\n", " ").rstrip(".")
    return found


def _shown(value: object) -> str:
    """A number with its thousands apart, bytes in hexadecimal, an object by its fields."""
    if type(value) is int:
        return f"{value:,}"
    if is_dataclass(value):
        return ", ".join(f"{f.name} {_shown(getattr(value, f.name))}" for f in fields(value))
    return f"`{value.hex() if isinstance(value, bytes) else value}`"


def _parameters() -> str:
    [definition] = ast.parse(inspect.getsource(ChainParams)).body
    assert isinstance(definition, ast.ClassDef)
    said = _documented(definition.body)
    lines = []
    for field in fields(ChainParams):
        cells = [getattr(params, field.name) for params in PRESETS.values()]
        lines.append((f"`{field.name}`", *map(_shown, cells), said[field.name].replace("|", "\\|")))
    return table(("parameter", *PRESETS, "meaning"), lines)


def _derived() -> str:
    names = [name for name, value in vars(ChainParams).items() if isinstance(value, property)]
    lines = []
    for name in names:
        cells = (_shown(getattr(params, name)) for params in PRESETS.values())
        doc = inspect.getdoc(vars(ChainParams)[name]) or ""
        lines.append((f"`{name}`", *cells, doc.replace("\n", " ").rstrip(".")))
    return table(("follows", *PRESETS, "meaning"), lines)


def _limits() -> str:
    """The numbers MAX_… and …_BYTES that modules of the package define."""
    lines = []
    root = Path(next(iter(chain.__path__)))
    for path in sorted((*root.glob("*.py"), *root.glob("rating/*.py"))):
        source = path.read_text(encoding="utf-8")
        if not re.search(_LIMIT, source, re.MULTILINE):
            continue
        where = path.relative_to(root)
        module = import_module(".".join(("chain", *where.with_suffix("").parts)))
        for name, said in _documented(ast.parse(source).body).items():
            value = getattr(module, name)
            if re.match(_LIMIT, f"{name} = ") and type(value) is int:
                lines.append((f"`{name}`", number(value), f"`chain/{where}`", said))
    return table(("constant", "value", "where", "meaning"), lines)


def _books() -> str:
    told = story()
    lines = []
    for height, state in enumerate(told.states):
        books = state.supply()
        held = (books.balances, books.escrow, books.bonds, books.vesting)
        assert books.ok
        votes = [] if not height else [told.name(vote.voter) for vote in told.blocks[height - 1].body.votes]
        sums = (sum(held), books.genesis + books.issued - books.burned)
        lines.append((state.slot, " ".join(sorted(votes)) or "–", *map(tokens, (books.issued, *held, *sums))))
    head = (
        "slot",
        "votes of",
        "issued",
        "balances",
        "escrow",
        "bonds",
        "vesting",
        "held together",
        "should be",
    )
    return table(head, lines)


REGIONS = {"parameters": _parameters, "derived-parameters": _derived, "limits": _limits, "books": _books}
