"""What a page may not have: markup from what it shows, and anything that it would have to fetch."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_VOID = {"meta", "br", "i"}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.open: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag


def stands_alone(page: str) -> None:
    """Assert that a page is well formed, runs nothing, and fetches nothing."""
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.seen.isdisjoint({"script", "link", "img", "iframe", "object", "b"})
    assert tags.attributes.isdisjoint({"src", "href", "onload"})
    assert not re.search(r"https?://|url\(|@import", page.replace('xmlns="http://www.w3.org/2000/svg"', ""))
