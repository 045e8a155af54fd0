"""Line charts and bars as SVG that needs nothing else: no script, no style sheet, no font."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e")
_TICKS = 5
_LEFT, _RIGHT, _ROW = 60, 14, 18
_GLYPH = 6.3
"""About the width of a letter, pixels: nobody measures text here."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Axis:
    """A linear axis: the values `low` to `high` lie from pixel `begin` to pixel `end`."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.begin + (self.end - self.begin) * share, 1)

    def ticks(self) -> list[float]:
        """Round numbers on the axis, about five."""
        step = nice((self.high - self.low) / _TICKS)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    width: int = 640,
    height: int = 320,
    *,
    marks: Sequence[tuple[float, str]] = (),
    end: float | None = None,
    step: bool = False,
) -> str:
    """A chart with a line for each series, as one `<svg>` element.

    Args:
        title: above it; may be empty.
        x_label, y_label: what the axes show, with its unit.
        series: points (x, y) by name, x growing; a point that is not finite interrupts its line.
        width, height: pixels; the chart scales to the place where it is put.
        marks: places on the x axis to point out, each with a text that shows when pointed at.
        end: the last x; that of the points by default.
        step: whether y keeps its value until the next point.
    """
    legend, rows = _legend(list(series), width, height)
    head = _ROW if title else 0
    top, bottom = head + _ROW + 4, height - (2 + rows) * _ROW - 2
    body = [_text(width / 2, 15, title, "middle", ' font-weight="600"')] if title else []
    body.append(_text(6, head + 13, y_label, "start"))
    known = [point for points in series.values() for point in points if _is_finite(point)]
    if known:
        xs = [x for x, _ in known] + ([] if end is None else [end])
        x_axis = _Axis(min(0.0, *xs), max(xs) if max(xs) > min(0.0, *xs) else 1.0, _LEFT, width - _RIGHT)
        y_axis = _Axis(*_span([y for _, y in known]), bottom, top)
        body += [_grid(x_axis, y_axis), _text(width / 2, bottom + 2 * _ROW, x_label, "middle")]
        body += [_mark(x_axis.at(x), y_axis, f"{x:g} {x_label}: {text}") for x, text in marks]
        for number, (name, points) in enumerate(series.items()):
            body.append(_line(name, points, (x_axis, y_axis), _colour(number), step))
        body.append(legend)
    else:
        body.append(_text(width / 2, height / 2, "nothing was seen", "middle"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="11">{"".join(body)}</svg>'
    )


def bar(parts: Mapping[str, float], total: float, colours: Mapping[str, str]) -> str:
    """One horizontal bar whose parts add up to at most `total`, as an `<svg>` element of class `bar`."""
    cells, at = [], 0.0
    for name, value in parts.items():
        width = 100 * value / total if total else 0.0
        colour = colours.get(name, "#999")
        cells.append(
            f'<rect x="{at:.2f}" y="0" width="{width:.2f}" height="10" fill="{colour}">'
            f"<title>{escape(f'{name}: {value:,.0f}')}</title></rect>"
        )
        at += width
    return (
        f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none">'
        f'<rect width="100" height="10" fill="#8883"/>{"".join(cells)}</svg>'
    )


def nice(value: float) -> float:
    """The next round number that is not less: 1, 2, 2.5 or 5 times a power of ten; 1 for 0 and less."""
    if value <= 0:
        return 1.0
    value *= 1 - 1e-9  # a sum or a quotient that is a hair too large is still that number
    power: float = 10.0 ** math.floor(math.log10(value))
    return next((factor * power for factor in (1, 2, 2.5, 5) if factor * power >= value), 10 * power)


def _span(ys: Sequence[float]) -> tuple[float, float]:
    """Where the y axis begins and ends: at 0 where the values would still be told apart, else near them."""
    low, high = min(ys), max(ys)
    if low >= 0 and (low <= high / 2 or low == high):
        return 0.0, nice(high)
    if low == high:
        return -nice(-low), 0.0
    step = nice((high - low) / _TICKS)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def _is_finite(point: tuple[float, float]) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _line(name: str, points: Points, axes: tuple[_Axis, _Axis], colour: str, step: bool) -> str:
    """A series' path, and a dot where a point has no neighbour that a line could lead to."""
    path, dots = "", ""
    for place, point in enumerate(points):
        if not _is_finite(point):
            continue
        x, y = axes[0].at(point[0]), axes[1].at(point[1])
        joined = place > 0 and _is_finite(points[place - 1])
        path += f"M{x} {y}" if not joined else f"H{x}V{y}" if step else f"L{x} {y}"
        if not joined and (place + 1 == len(points) or not _is_finite(points[place + 1])):
            dots += f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>'
    return (
        f'<path d="{path}" stroke="{colour}" fill="none" stroke-width="1.8">'
        f"<title>{escape(name)}</title></path>{dots}"
    )


def _grid(x_axis: _Axis, y_axis: _Axis) -> str:
    parts = []
    for value in y_axis.ticks():
        y = y_axis.at(value)
        parts.append(
            f'<line x1="{x_axis.begin}" x2="{x_axis.end}" y1="{y}" y2="{y}" '
            'stroke="currentColor" stroke-opacity="0.2"/>'
        )
        parts.append(_text(x_axis.begin - 6, y + 4, f"{value:,.7g}", "end"))
    for value in x_axis.ticks():
        parts.append(_text(x_axis.at(value), y_axis.begin + _ROW - 2, f"{value:,.7g}", "middle"))
    return "".join(parts)


def _mark(x: float, y_axis: _Axis, text: str) -> str:
    return (
        f'<line x1="{x}" x2="{x}" y1="{y_axis.end}" y2="{y_axis.begin}" stroke="currentColor" '
        f'stroke-opacity="0.4" stroke-dasharray="3 3"><title>{escape(text)}</title></line>'
    )


def _legend(names: Sequence[str], width: int, height: int) -> tuple[str, int]:
    """The names beside their colours in rows at the bottom, and the number of rows; none for one name."""
    if len(names) < 2:
        return "", 0
    rows: list[list[tuple[float, int]]] = [[]]
    at = float(_LEFT)
    for number, name in enumerate(names):
        needed = 28 + _GLYPH * len(name)
        if rows[-1] and at + needed > width:
            rows.append([])
            at = float(_LEFT)
        rows[-1].append((at, number))
        at += needed
    parts = []
    for row, items in enumerate(rows):
        y = height - 6 - _ROW * (len(rows) - 1 - row)
        for x, number in items:
            parts.append(f'<rect x="{x:.0f}" y="{y - 9}" width="10" height="10" fill="{_colour(number)}"/>')
            parts.append(_text(x + 14, y, names[number], "start"))
    return "".join(parts), len(rows)


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="currentColor"{more}>{escape(text)}</text>'
