"""The pages' byte tables against the encodings below them, without the chain and without msgpack."""

from __future__ import annotations

import re

import pytest

from tests.spec.reading import PAGES, lines, values


def byte_tables() -> list[tuple[str, list[list[str]], bytes]]:
    """Of all pages: each table of bytes, and the encoding that stands in the first fence below it."""
    found = []
    for path in sorted(PAGES.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        for place, match in enumerate(
            re.finditer(r"^\| at \| bytes .*\n\|[-| ]+\n((?:^\|.*\n)+)", text, re.MULTILINE)
        ):
            fence = re.search(r"```text\n.*?```", text[match.end() :], re.DOTALL)
            assert fence is not None
            data = next(value for value in values(fence[0]).values())
            rows = lines(match[0])
            found.append((f"{path.stem} {place}", rows, bytes.fromhex(data)))
    return found


@pytest.mark.parametrize(("rows", "data"), [pytest.param(*rest, id=name) for name, *rest in byte_tables()])
def test_a_table_says_which_bytes_are_which(rows: list[list[str]], data: bytes) -> None:
    """Each line's bytes are at its offset, and after a value the next line begins where it ends."""
    expected: int | None = None
    for at, shown, kind, *_ in rows:
        offset, (head, _, content) = int(at), shown.partition(" ")
        assert expected in (None, offset)
        first, _, last = content.partition("…")
        assert data[offset:].hex().startswith(head + first)
        if "array" in kind:
            expected = None
            continue
        size = int(kind.split()[1]) if " " in kind else 0
        expected = offset + len(head) // 2 + size
        assert data[offset:expected].hex().endswith(last or content)
