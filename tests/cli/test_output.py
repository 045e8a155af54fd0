"""Amounts, tables, sparklines, and text from strangers."""

from __future__ import annotations

import pytest

from p2pml.cli import output
from p2pml.errors import ExitCode, UserError


@pytest.mark.parametrize(
    ("units", "text"),
    [(0, "0"), (1, "0.00000001"), (150_000_000, "1.5"), (-(10**8), "-1"), (123_456_700_000_000, "1,234,567")],
)
def test_amounts_read_well_and_back(units: int, text: str) -> None:
    assert output.tokens(units) == text
    if units > 0:
        assert output.parse_tokens(text) == units


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "nan", "inf", "0.000000001", "1e30"])
def test_an_amount_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError) as caught:
        output.parse_tokens(text)
    assert caught.value.code is ExitCode.USAGE


@pytest.mark.parametrize(
    "text", ["1,5", "0,01", "0,500", "12,34,567", "1,2345", "1234,567", ",500", "1.500,25"]
)
def test_a_decimal_comma_is_refused_and_not_left_out(text: str) -> None:
    with pytest.raises(UserError, match="is not an amount of tokens") as caught:
        output.parse_tokens(text)
    assert caught.value.code is ExitCode.USAGE
    assert "decimals come after a point" in caught.value.fix


def test_commas_between_thousands_are_read_as_they_are_printed() -> None:
    assert output.parse_tokens("1,500") == 1500 * 10**8
    assert output.parse_tokens("12,345,678.5") == 1_234_567_850_000_000


def test_columns_line_up() -> None:
    text = output.columns(("A", "NUMBER"), [("xx", 1), ("y", None), ("z", True)], right=(1,))
    assert text == "A   NUMBER\nxx       1\ny        –\nz      yes"


def test_a_strangers_name_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit("name\x1b]0;owned\x07\x1b[2Jx\ttab")
    assert capsys.readouterr().out == "name\ufffd]0;owned\ufffd\ufffd[2Jx\ttab\n"
    assert "\x1b" not in output.columns(("A",), [("\x1b[31mred\nline",)])


def test_sparkline_shows_the_last_values_between_their_ends() -> None:
    assert output.sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert output.sparkline([1.0, 1.0]) == "▄▄"
    assert output.sparkline([]) == ""
    assert len(output.sparkline([float(i) for i in range(100)], width=10)) == 10


def test_sizes() -> None:
    assert [output.size(n) for n in (0, 1023, 1536, 5 * 2**30)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]


def test_an_error_is_two_lines_without_colour_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.error(UserError("the cause", "the fix"))
    assert capsys.readouterr().err == "error: the cause\n  fix: the fix\n"
