"""Charts: where lines and ticks lie, and that what they show cannot become markup."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from p2pml.report import svg

_NS = "{http://www.w3.org/2000/svg}"


def _drawn(series: dict[str, list[tuple[float, float]]], **options: object) -> ElementTree.Element:
    return ElementTree.fromstring(svg.line_chart("title", "round", "accuracy", series, **options))  # type: ignore[arg-type]


def _texts(chart: ElementTree.Element) -> list[str | None]:
    return [item.text for item in chart.iter(f"{_NS}text")]


def _paths(chart: ElementTree.Element) -> list[str]:
    return [item.attrib["d"] for item in chart.iter(f"{_NS}path")]


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (-1, 1), (0.3, 0.5), (1, 1), (3, 5), (43, 50), (101, 200), (2400, 2500)]
)
def test_axes_end_at_round_numbers(value: float, top: float) -> None:
    assert svg.nice(value) == pytest.approx(top)


def test_labels_ticks_and_names_are_there() -> None:
    found = _texts(_drawn({"one": [(0, 0), (10, 0.5)], "two": [(0, 0.2), (10, 1.0)]}))
    assert {"title", "round", "accuracy", "one", "two", "0", "0.2", "1", "2", "10"} <= set(found)


def test_a_line_goes_from_corner_to_corner() -> None:
    assert _paths(_drawn({"one": [(0, 0), (10, 1)]})) == ["M60.0 282.0L626.0 40.0"]


def test_a_stepped_line_goes_right_then_up() -> None:
    assert _paths(_drawn({"one": [(0, 0), (10, 1)]}, step=True)) == ["M60.0 282.0H626.0V40.0"]


def test_values_close_together_are_told_apart() -> None:
    found = _texts(_drawn({"one": [(1, 0.90), (2, 0.95)]}))
    assert "0.9" in found
    assert "0.95" in found
    assert "0.6" not in found


@pytest.mark.parametrize("y", [0.0, 3.0, -3.0, 1e-12, 1e12])
def test_a_single_point_is_a_dot_on_the_chart(y: float) -> None:
    (dot,) = _drawn({"one": [(0, y)]}).iter(f"{_NS}circle")
    assert 40 <= float(dot.attrib["cy"]) <= 282


def test_what_is_not_finite_interrupts_the_line() -> None:
    chart = _drawn({"one": [(0, 0), (1, 1), (2, math.nan), (3, math.inf), (4, 1)]})
    (path,) = _paths(chart)
    assert path.count("M") == 2
    assert "nan" not in path
    assert len(list(chart.iter(f"{_NS}circle"))) == 1


@pytest.mark.parametrize("series", [{}, {"one": []}, {"one": [(0.0, math.nan)]}])
def test_a_chart_of_nothing_says_so(series: dict[str, list[tuple[float, float]]]) -> None:
    assert "nothing was seen" in _texts(_drawn(series))


def test_names_and_labels_are_escaped() -> None:
    evil = "<script>&\"'"
    series = {evil: [(0.0, 1.0)], "x": [(1.0, 2.0)]}
    chart = ElementTree.fromstring(svg.line_chart(evil, evil, evil, series, marks=[(0.5, evil)]))
    assert {item.tag.removeprefix(_NS) for item in chart.iter()} <= {
        "svg",
        "text",
        "line",
        "path",
        "rect",
        "circle",
        "title",
    }
    assert _texts(chart).count(evil) == 4
    assert evil in [title.text for title in chart.iter(f"{_NS}title")]


def test_the_rows_of_a_long_legend_lie_below_the_axis_and_within_the_chart() -> None:
    names = [f"a participant's name {number}" for number in range(9)]
    chart = _drawn({name: [(0, 0), (1, 1)] for name in names})
    rows = {float(item.attrib["y"]) for item in chart.iter(f"{_NS}text") if item.text in names}
    (label,) = [float(item.attrib["y"]) for item in chart.iter(f"{_NS}text") if item.text == "round"]
    assert len(rows) > 1
    assert label < min(rows)
    assert max(rows) <= 320


def test_the_parts_of_a_bar_follow_each_other() -> None:
    bar = ElementTree.fromstring(
        svg.bar({"a": 1, "b": 3}, 4, {"a": "red"}).replace("<svg", f'<svg xmlns="{_NS[1:-1]}"', 1)
    )
    _, first, second = bar.iter(f"{_NS}rect")
    assert (first.attrib["x"], first.attrib["width"], first.attrib["fill"]) == ("0.00", "25.00", "red")
    assert (second.attrib["x"], second.attrib["width"]) == ("25.00", "75.00")
