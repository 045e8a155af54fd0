"""The specification as a stranger reads it: pages, regions, values; nothing of the project is imported."""

from __future__ import annotations

import re
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs" / "spec"


def region(page: str, name: str) -> str:
    """The text of a region of a page."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return text.split(f"<!-- generated: {name} -->\n")[1].split("<!-- end -->")[0]


def values(text: str) -> dict[str, str]:
    """`name = value` of all fences; a long value goes on in the lines below its name."""
    found: dict[str, str] = {}
    for fence in re.findall(r"```text\n(.*?)```", text, re.DOTALL):
        name = ""
        for line in fence.splitlines():
            if line.startswith("  "):
                found[name] += line.strip()
            elif not line.startswith("#"):
                name, _, value = line.partition(" =")
                assert name not in found, name
                found[name] = value.strip()
    return found


def octets(page: str, name: str) -> dict[str, bytes]:
    """The values of a region that are bytes."""
    found = values(region(page, name))
    return {
        key: bytes.fromhex(value)
        for key, value in found.items()
        if re.fullmatch(r"(?:[0-9a-f]{2})+", value) and not value.isdecimal()
    }


def lines(text: str) -> list[list[str]]:
    """The cells of a table's lines, without the head, of all tables of a text."""
    found = []
    for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        for line in table.splitlines()[2:]:
            found.append([cell.strip().strip("`") for cell in line.strip("| \n").split(" | ")])
    return found
