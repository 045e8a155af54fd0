"""The pages of the specification are what the code says, and a page that is not is noticed."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from chain.codec import pack
from tests.spec.__main__ import main
from tests.spec.pages import FOLDER, PageError, filled, names, region, regions, stale
from tests.spec.walk import walk

PAGE = "# A page\n\n<!-- generated: a -->\nold\n<!-- end -->\n\ntext\n"


def test_the_pages_are_what_the_code_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out


def test_drift_is_noticed_and_repaired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "spec"
    shutil.copytree(FOLDER, folder)
    page = folder / "block.md"
    true = page.read_text(encoding="utf-8")
    page.write_text(true.replace("leaf0.rank` | 0…255", "leaf0.rank` | 0…256"), encoding="utf-8")
    assert main(["--check"], folder) == 1
    assert capsys.readouterr().out == "block.md is not what the code says: run python -m tests.spec\n"
    assert page.read_text(encoding="utf-8") != true
    assert main([], folder) == 0
    assert page.read_text(encoding="utf-8") == true
    assert main(["--check"], folder) == 0


def test_every_region_is_on_one_page() -> None:
    used = [name for path in FOLDER.glob("*.md") for name in names(path.read_text(encoding="utf-8"))]
    assert sorted(used) == sorted(regions())


def test_a_region_is_filled_and_the_text_around_it_kept() -> None:
    assert filled(PAGE, {"a": lambda: "\nnew\n\nlines\n"}) == PAGE.replace("old", "new\n\nlines")
    assert region(PAGE, "a") == "old\n"
    with pytest.raises(PageError, match="no region 'b'"):
        region(PAGE, "b")


def test_a_region_that_nobody_makes_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    with pytest.raises(PageError, match=r"page.md: nobody makes the region 'a'"):
        stale(tmp_path, {})


@pytest.mark.parametrize(
    "text",
    [
        PAGE.replace("<!-- end -->", ""),
        PAGE.replace("<!-- generated: a -->", ""),
        PAGE.replace("old", "<!-- generated: b -->\nold"),
    ],
)
def test_marks_that_do_not_pair_are_an_error(text: str) -> None:
    with pytest.raises(PageError, match="of its own"):
        filled(text, {"a": str, "b": str})


def test_the_second_computation_uses_none_of_our_code() -> None:
    """Or it would repeat our mistakes."""
    here = Path(__file__).parent
    checkers = [*here.glob("test_recomputed*.py"), here / "test_byte_tables.py"]
    seen: set[Path] = set()
    while checkers:
        path = checkers.pop()
        seen.add(path)
        for name in re.findall(
            r"^\s*(?:from|import) ([\w.]+)", path.read_text(encoding="utf-8"), re.MULTILINE
        ):
            if name.startswith("tests.spec."):
                checkers += {here / f"{name.removeprefix('tests.spec.')}.py"} - seen
            else:
                assert name.split(".")[0] in {*sys.stdlib_module_names, "msgpack", "nacl", "pytest"}, (
                    path.name
                )
    assert {path.stem for path in seen} >= {"by_hand", "curve", "reading"}


@pytest.mark.parametrize("size", [0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536])
def test_an_encoding_is_taken_apart_as_it_was_put_together(size: int) -> None:
    item = (
        size,
        2**size if size < 64 else 2**64 - 1,
        b"x" * size,
        "y" * size,
        size > 20,
        ((),) * min(size, 99),
    )
    data = pack(item)
    part = walk(data)
    assert part.value == item
    assert [inner.offset for inner in part.items[1:]] == [inner.end for inner in part.items[:-1]]
    assert part.end == part.items[-1].end == len(data)


@pytest.mark.parametrize("data", [b"\xc0", b"\xff", b"\x80", b"\xca\x00\x00\x00\x00", b"\x01\x01"])
def test_what_the_chain_does_not_write_is_not_taken_apart(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"begins nothing|too many"):
        walk(data)
