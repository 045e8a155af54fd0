"""The lab's checks against nodes that say what a test wants them to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from p2pml.errors import ExitCode, UserError
from p2pml.lab.run import checks
from p2pml.lab.run.checks import Fetch, Result

_SUPPLY = {
    "genesis": 100, "issued": 8, "burned": 1, "balances": 86, "escrow": 10, "bonds": 6, "vesting": 5,
    "adds_up": True,
}  # fmt: skip


@dataclass
class _Says:
    """A node with a chain (ids by height), books and datasets."""

    chain: list[str]
    supply: dict[str, Any] = field(default_factory=lambda: dict(_SUPPLY))
    datasets: list[dict[str, Any]] = field(default_factory=list)
    final: int = 0

    def get(self, path: str, **_query: Any) -> Any:
        if path == "/status":
            head = {"height": len(self.chain), "id": self.chain[-1], "final_height": self.final}
            return {"head": head}
        if path == "/supply":
            return self.supply
        if path == "/datasets":
            return self.datasets
        height = int(path.rpartition("/")[2])
        if height > len(self.chain):
            raise UserError("there is no such block", "", ExitCode.FAILURE)
        return {"id": self.chain[height - 1]}


class _Silent:
    def get(self, path: str, **_query: Any) -> Any:
        raise UserError("no daemon is running", "", ExitCode.DAEMON_DOWN)


def test_heads_agree_when_a_node_is_a_little_behind() -> None:
    found = checks.heads({"n1": _Says(["a", "b", "c", "d"]), "n2": _Says(["a"])})
    assert found.ok
    assert "agree on block 1" in found.text


@pytest.mark.parametrize(
    "other", [_Says(["a"]), _Says(["x", "y", "z", "w", "v"]), _Says(["a", "y", "z", "w", "v"]), _Silent()]
)
def test_heads_differ(other: checks.Getter) -> None:
    assert not checks.heads({"n1": _Says(["a", "b", "c", "d", "e"]), "n2": other}).ok


def test_books_that_add_up() -> None:
    found = checks.books({"n1": _Says(["a"]), "n2": _Says(["a"])})
    assert found.ok
    assert "107" in found.text


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (_Says(["a"], {**_SUPPLY, "balances": 87}), "n2"),
        (_Says(["a"], {**_SUPPLY, "adds_up": False}), "n2"),
        (_Says(["b"]), "heads differ"),
        (_Says(["a"], {**_SUPPLY, "balances": 85, "escrow": 11}), "different books"),
        (_Silent(), "does not answer"),
    ],
)
def test_books_that_do_not(other: checks.Getter, says: str) -> None:
    found = checks.books({"n1": _Says(["a"]), "n2": other})
    assert not found.ok
    assert says in found.text


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., tuple[_Says, Path]]:
    """Makes a participant that holds these of three shards, with `extra` of them on its disk besides."""

    def make(name: str, held: set[int], extra: set[int] = frozenset()) -> tuple[_Says, Path]:  # type: ignore[assignment]
        pieces = tmp_path / name / "pieces"
        content = pieces / "ff" / "content"
        content.mkdir(parents=True)
        files = []
        for number in range(3):
            location = content / f"{number}.safetensors"
            if number in held | extra:
                location.write_bytes(b"x" * 5000)
            files.append({"complete": number in held, "location": str(location)})
        dataset = {"infohash": "ff", "name": "job-shards", "private": True, "files": files}
        return _Says(["a"], datasets=[dataset]), pieces

    return make


def test_shards_where_they_belong(trainer: Callable[..., tuple[_Says, Path]]) -> None:
    members = {"n2": trainer("n2", {0, 1}), "n3": trainer("n3", {1, 2}), "n4": trainer("n4", {2, 0})}
    asked = {"n2": {0, 1}, "n3": {1, 2}, "n4": {2, 0}}
    assert checks.shards_running(members, asked, 3, 0).ok
    moved = asked | {
        "n2": {0},
        "n5": {1},
    }  # a later trainer took a shard over, and its old holder keeps a copy
    members["n5"] = trainer("n5", {1})
    assert checks.shards_running(members, moved, 3, 0).ok
    assert "7 copies" in checks.shards_running(members, asked | {"n5": {1}}, 3, 0).text


@pytest.mark.parametrize(
    ("held", "extra", "says"),
    [
        ([{0, 1}, {1}, {0}], set(), "nobody holds shards [2]"),
        ([{0, 1, 2}, {0, 1, 2}, {0, 1, 2}], set(), "9 copies"),
        ([{0, 1}, {1, 2}, set()], set(), "n4 has no shard"),
        ([{0, 1}, {1, 2}, {2, 0}], {1}, "did not ask for"),
    ],
)
def test_shards_where_they_do_not_belong(
    trainer: Callable[..., tuple[_Says, Path]], held: list[set[int]], extra: set[int], says: str
) -> None:
    names = ("n2", "n3", "n4")
    members = {
        name: trainer(name, mine, extra if name == "n4" else set())
        for name, mine in zip(names, held, strict=True)
    }
    found = checks.shards_running(members, {name: {0, 1, 2} for name in names}, 3, 0)
    assert not found.ok
    assert says in found.text


def test_shards_after_a_job(trainer: Callable[..., tuple[_Says, Path]]) -> None:
    assert checks.shards_over({"n2": _Says(["a"])}, ["n3"]) == Result(
        "shards", True, "no job torrents on n2; restarted meanwhile, so not looked at: n3"
    )
    assert not checks.shards_over({"n2": trainer("n2", {0})[0]}, []).ok
    assert not checks.shards_over({}, ["n3"]).ok


@pytest.mark.parametrize(
    ("fetches", "ok"),
    [
        ([Fetch("n5", "d", 2, {"n1": 5, "n4": 7})], True),
        ([Fetch("n4", "d", 1, {"n1": 5}), Fetch("n5", "d", 2, {"n1": 5, "n4": 7})], True),
        ([Fetch("n5", "d", 2, {"n1": 5, "n4": 0})], False),
        ([Fetch("n4", "d", 1, {"n1": 5})], False),
        ([], False),
    ],
)
def test_sources(fetches: list[Fetch], ok: bool) -> None:
    assert checks.sources(fetches).ok is ok


def test_patience_ends() -> None:
    moments = iter([0.0, 1.0, 2.0, 3.0])
    results = iter([Result("heads", False, "1"), Result("heads", False, "2"), Result("heads", False, "3")])
    found = checks.patiently(lambda: next(results), 2.0, clock=lambda: next(moments), sleep=lambda _s: None)
    assert found.text == "2"
    good = Result("heads", True, "")
    assert checks.patiently(lambda: good, 0.0) == good


def test_why_a_check_does_not_hold_yet_is_told_once() -> None:
    results = iter([Result("x", False, text) for text in ("a", "a", "b")] + [Result("x", True, "c")])
    told: list[str] = []
    checks.patiently(lambda: next(results), 9.0, told.append, clock=lambda: 0.0, sleep=lambda _s: None)
    assert told == ["x not yet: a", "x not yet: b"]


@pytest.mark.parametrize(
    ("one", "other", "ok"),
    [
        (_Says(list("abcdefgh"), final=7), _Says(list("abcdefgh"), final=2), True),
        (_Says(list("abcdefgh"), final=7), _Says(list("abcdefgh"), final=1), False),
        (_Says(list("abcd"), final=3), _Says(list("axcd"), final=2), False),
        (_Says(list("abcd"), final=3), _Silent(), False),
    ],
)
def test_all_but_the_last_blocks_are_final_and_the_same(
    one: checks.Getter, other: checks.Getter, ok: bool
) -> None:
    assert checks.finality({"n1": one, "n2": other}).ok == ok
