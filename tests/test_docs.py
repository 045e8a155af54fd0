"""The documents point at what is there: links, sections, files, tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pml.errors import JOB_ENDS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
SOURCE = re.compile(r"`((?:chain|torrent|p2pml|tests|docs|examples|bin)/[\w./-]+\.\w+)(?:::(\w+))?`")
PLANS = "## Rooms that are not built yet"
TEST = re.compile(r"`((?:\w+/)+\w+(?:\.py)?)(?:::(\w+))?`")


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """The names of a page's headings: lower case, no punctuation, hyphens for blanks."""
    heads = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def dead_links(path: Path) -> Iterator[str]:
    for link in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        page = (path.parent / target).resolve() if target else path
        if not page.exists() or (anchor and (page.suffix != ".md" or anchor not in anchors(page))):
            yield link


def missing(found: list[tuple[str, str]], folder: Path) -> Iterator[str]:
    """Files that are not there, and tests that are not in theirs."""
    for name, function in found:
        path = folder / name
        if not path.exists():
            yield name
        elif function and f"def {function}(" not in path.read_text(encoding="utf-8"):
            yield f"{name}::{function}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_sections_and_files_are_there(path: Path) -> None:
    assert list(dead_links(path)) == []
    if path.name != "attacks.md":  # its paths are below tests/
        assert list(missing(SOURCE.findall(prose(path).split(PLANS)[0]), ROOT)) == []


def test_the_tests_of_the_attacks_are_there() -> None:
    text = (ROOT / "docs" / "spec" / "attacks.md").read_text(encoding="utf-8")
    rows = [line.split(" | ")[-1] for line in text.split("## ")[0].splitlines() if line.startswith("| ")]
    named = [TEST.findall(cell) for cell in rows[2:]]
    assert len(named) > 30
    assert all(named), [cell for cell, found in zip(rows[2:], named, strict=True) if not found]
    assert list(missing([test for found in named for test in found], ROOT / "tests")) == []


def test_what_is_not_there_is_noticed(tmp_path: Path) -> None:
    other = tmp_path / "other.md"
    other.write_text("# A head: `x`, y\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md) [b](other.md#a-head-x-y) [c](https://example.org/x)\n"
        "[d](none.md) [e](other.md#none) [f](#none)\n```\n[g](none.md)\n```\n",
        encoding="utf-8",
    )
    assert list(dead_links(page)) == ["none.md", "other.md#none", "#none"]
    (tmp_path / "test_x.py").write_text("def test_a() -> None: ...\n", encoding="utf-8")
    assert list(missing([("test_x.py", "test_a"), ("test_x.py", "test_b"), ("y.py", "")], tmp_path)) == [
        "test_x.py::test_b",
        "y.py",
    ]


def test_the_guide_tells_every_end_of_a_job() -> None:
    text = (ROOT / "docs" / "guide" / "jobs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (\d+) \|", text, re.MULTILINE)
    assert {word: int(code) for word, code in rows} == {word: int(code) for code, word in JOB_ENDS.items()}
