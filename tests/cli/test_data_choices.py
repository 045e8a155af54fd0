"""Choices among a data set's bytes as people write them."""

from __future__ import annotations

import pytest

from p2pml.cli.data_choices import file_choice, file_numbers, range_choice
from p2pml.errors import ExitCode, UserError


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("a.bin:0-10", ("a.bin", 0, 10, 4)),
        ("a.bin:5-", ("a.bin", 5, None, 4)),
        ("a:b=7/c:1-2=0", ("a:b=7/c", 1, 2, 0)),
        ("*:0-10=7", ("*", 0, 10, 7)),
    ],
)
def test_ranges(text: str, choice: tuple[str, int, int | None, int]) -> None:
    pattern, begin, end, priority = choice
    assert range_choice(text) == {"pattern": pattern, "begin": begin, "end": end, "priority": priority}


@pytest.mark.parametrize(
    "text", ["", "a", "a:", ":0-1", "a:-5", "a:1", "a:0-1=8", "a:0-1=", "a:0-1 ", "a:0-٣"]
)
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(UserError, match="is not bytes of a file") as caught:
        range_choice(text)
    assert caught.value.code is ExitCode.USAGE
    assert caught.value.fix


def test_files() -> None:
    assert file_choice("train/*=7") == {"pattern": "train/*", "priority": 7}
    assert file_choice("a=b") == {"pattern": "a=b", "priority": 4}
    assert (file_numbers("0,2,5"), file_numbers(None)) == ([0, 2, 5], None)
    with pytest.raises(UserError, match="not a list of numbers"):
        file_numbers("0,x")
