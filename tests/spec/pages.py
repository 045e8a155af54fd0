"""Pages of docs/spec with regions that are filled in by running the code.

A region lies between `<!-- generated: NAME -->` and `<!-- end -->`; NAME is a key of the `REGIONS` of some
module `tests/spec/*_regions.py`, whose value makes the region's Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "spec"
_REGION = re.compile(r"<!-- generated: (\S+) -->\n(.*?)<!-- end -->", re.DOTALL)
_MARK = re.compile(r"<!-- (?:generated\b|end)[^\n]*-->")

Regions = Mapping[str, Callable[[], str]]


class PageError(Exception):
    """A page names a region that nobody makes, or its marks do not pair."""


@cache
def regions() -> Regions:
    """All regions by name."""
    found: dict[str, Callable[[], str]] = {}
    for path in sorted(Path(__file__).parent.glob("*_regions.py")):
        for name, make in import_module(f"tests.spec.{path.stem}").REGIONS.items():
            if name in found:
                raise PageError(f"two regions are called {name!r}")
            found[name] = make
    return found


def names(text: str) -> list[str]:
    """The regions of a page. Raises PageError where its marks do not pair."""
    found = [match[1] for match in _REGION.finditer(text)]
    if len(_MARK.findall(text)) != 2 * len(found):
        raise PageError("a mark `<!-- generated: NAME -->` has no `<!-- end -->` of its own, or the reverse")
    return found


def region(text: str, name: str) -> str:
    """What a page has between the marks of a region. Raises PageError."""
    for match in _REGION.finditer(text):
        if match[1] == name:
            return match[2]
    raise PageError(f"there is no region {name!r}")


def filled(text: str, known: Regions) -> str:
    """The page with its regions made anew. Raises PageError."""
    for name in names(text):
        if name not in known:
            raise PageError(f"nobody makes the region {name!r}; there are: {', '.join(sorted(known))}")

    def fill(match: re.Match[str]) -> str:
        return f"<!-- generated: {match[1]} -->\n{known[match[1]]().strip()}\n<!-- end -->"

    return _REGION.sub(fill, text)


def stale(folder: Path, known: Regions) -> dict[Path, str]:
    """The pages that differ from what the code says now, with what they should be. Raises PageError."""
    found: dict[Path, str] = {}
    for path in sorted(folder.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        try:
            now = filled(text, known)
        except PageError as error:
            raise PageError(f"{path.name}: {error}") from None
        if now != text:
            found[path] = now
    return found
