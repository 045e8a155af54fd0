"""docs/spec/state.md: the kinds of entries, and one root from all that is under it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import Any, get_args

from chain import buckets, entries
from chain.codec import unpack
from chain.rating import entries as rating_entries
from chain.state import State
from tests.spec.block_regions import WORKED
from tests.spec.example import job_story, replayed, story, window_story
from tests.spec.fields import rows, summary
from tests.spec.markdown import byte_table, hashed, table, values
from tests.spec.watch import Hash, hashes

_INNER = ("bucket", "buckets")
"""Tags of the tree's nodes: thousands of hashes, shown by their rule and not one by one."""


def _keys() -> str:
    lines = []
    keys = [*vars(entries).items(), *vars(rating_entries).items()]
    for name, function in keys:
        if name.endswith("_KEY"):
            lines.append((f"`{function.hex()}` {function.decode()}", name.removesuffix("_KEY").lower(), ""))
        if not name.endswith("_key") or not inspect.isfunction(function):
            continue
        definition = ast.parse(inspect.getsource(function)).body[0]
        assert isinstance(definition, ast.FunctionDef)
        returned = definition.body[-1]
        assert isinstance(returned, ast.Return)
        parts = [part.strip() for part in ast.unparse(returned.value or ast.Constant("")).split(" + ")]
        prefix = ast.literal_eval(parts[0])
        lines.append(
            (f"`{prefix.hex()}` {prefix.decode()}", name.removesuffix("_key"), " ‖ ".join(parts[1:]))
        )
    return table(("first byte", "entry", "then, in the code's words"), sorted(lines))


def _all(state: State) -> Iterator[tuple[bytes, Any]]:
    return buckets.walk(state._tree)


def _entries() -> str:
    """A byte table of a real entry of each kind."""
    instances: dict[type, Any] = {}
    jobs, _ = job_story()
    for state in (story().states[-1], jobs.world.state, window_story().world.state):
        for _, entry in sorted(_all(state), key=lambda row: row[0]):
            instances.setdefault(type(entry), entry)
    found = []
    for kind in get_args(entries.Entry):
        entry = instances.get(kind)
        shown = f"### {kind.__name__}\n\n{summary(kind)}."
        if entry is not None:
            data = entry.encoded
            lines = rows(entry, data, lambda raw: unpack(raw, len(raw)), fold=("RoundRecord",))
            shown += f"\n\n{byte_table(lines, data)}\n\n{values((kind.__name__, data))}"
        found.append(shown)
    return "\n\n".join(found)


def _root() -> str:
    state = replayed(WORKED - 1)
    rows_ = sorted(_all(state), key=lambda row: (buckets.bucket_of(row[0]), row[0]))
    listed = table(
        ("bucket", "key", "entry"),
        ((buckets.bucket_of(key), f"`{key.hex()}`", f"`{entry.encoded.hex()}`") for key, entry in rows_),
    )
    empty = buckets.EMPTY
    levels: list[tuple[str, object]] = []
    node: Any = empty
    for name in ("empty tree", "empty node of 256 buckets", "empty node of 16 buckets", "empty bucket"):
        levels.append((name, node.hash))
        node = node.children[0] if isinstance(node, buckets.Node) else None
    return f"{listed}\n\n{values(*levels, ('tree', state._tree.hash), *_explained(state))}"


def _explained(state: State) -> Iterator[tuple[str, object] | str]:
    """The root, and every hash that it is made of, but for those inside the tree of entries."""
    taken: dict[bytes, Hash] = {}
    for one in hashes(lambda: replayed(WORKED - 1).root()):
        taken[one.digest] = one
    open_, told = [state.root()], set[bytes]()
    count: dict[str, int] = {}
    while open_:
        one = taken[open_.pop(0)]
        if one.digest in told:
            continue
        told.add(one.digest)
        count[one.tag] = count.get(one.tag, 0) + 1
        name = one.tag if count[one.tag] == 1 else f"{one.tag} {count[one.tag]}"
        yield f"{name} = {hashed(one.tag, 'what is hashed')}"
        yield f"{name}: hashed", one.data
        yield f"{name}: digest", one.digest
        open_ += [
            other.digest
            for other in taken.values()
            if other.tag in _PARTS and other.tag != one.tag and other.digest in one.data
        ]


_PARTS = ("tables", "weights", "finality", "branch", "tally")
"""What a state root is made of beside the tree, in that order."""

REGIONS = {"entry-keys": _keys, "entries": _entries, "state-root": _root}
