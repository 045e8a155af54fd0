"""The page that lists the attacks (`docs/spec/attacks.md`) names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/spec/attacks.md"


def named() -> list[tuple[str, str]]:
    """(file, test): a name without a file is in the file named before it on its line."""
    found: list[tuple[str, str]] = []
    for line in PAGE.read_text().splitlines():
        file = ""
        for path, test in re.findall(r"`([\w/]+\.py)?(?:::)?(test_\w+)?`", line):
            file = path or file
            if file and (path or test):
                found.append((file, test))
    return found


def test_every_test_on_the_page_is_there() -> None:
    names = named()
    assert len(names) > 60
    for file, test in names:
        path = ROOT / "tests" / file
        assert path.is_file(), file
        if test:
            assert f"def {test}(" in path.read_text(), f"{file}::{test}"


def test_every_attack_of_this_folder_is_on_the_page() -> None:
    listed = {test for _, test in named()} | {Path(file).stem for file, test in named() if not test}
    for path in Path(__file__).parent.glob("test_*.py"):
        if path.name in ("test_page.py", "test_guards.py") or path.stem in listed:
            continue
        for test in re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE):
            shown = test in listed or test.endswith("_is_not_even_decoded")
            assert shown, f"{path.name}::{test} is missing on {PAGE.name}"
