"""Line charts as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e")
_WIDTH, _HEIGHT = 960, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 10, 28
_TICKS = 5


def lines(
    series: Mapping[str, Points],
    unit: str,
    *,
    marks: Sequence[tuple[float, str]] = (),
    end: float | None = None,
    step: bool = False,
    x_unit: str = " s",
    x_ticks: int = 0,
) -> str:
    """A chart with a line for each series, over time unless `x_unit` says otherwise.

    Args:
        series: points (x, y) by name, x growing.
        unit: of y, for its axis.
        marks: moments to point out, with a text that shows when pointed at.
        end: the last x; that of the points by default.
        step: whether y keeps its value until the next point.
        x_unit: what follows the numbers of the x axis.
        x_ticks: into how many parts the x axis is divided; 5 when it is 0 or more than 20.
    """
    points = [point for each in series.values() for point in each]
    if not points:
        return '<p class="none">nothing was seen</p>'
    right = max([end or 0.0, *(x for x, _ in points)]) or 1.0
    top = nice(max(y for _, y in points))
    parts = [_grid(right, top, unit, x_unit, x_ticks if 0 < x_ticks <= 20 else _TICKS)]
    for x, text in marks:
        at = _x(x, right)
        parts.append(
            f'<line class="mark" x1="{at}" x2="{at}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}">'
            f"<title>{escape(f'{x:.0f} s: {text}')}</title></line>"
        )
    for number, (name, each) in enumerate(series.items()):
        path = _path([(_x(x, right), _y(y, top)) for x, y in each], step)
        colour = COLOURS[number % len(COLOURS)]
        parts.append(
            f'<path d="{path}" stroke="{colour}" fill="none" stroke-width="1.8">'
            f"<title>{escape(name)}</title></path>"
        )
        if len(each) == 1:
            x, y = _x(each[0][0], right), _y(each[0][1], top)
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
    return f"<svg {box}>{''.join(parts)}</svg>{_legend(list(series))}"


def bars(parts: Mapping[str, float], total: float, colours: Mapping[str, str]) -> str:
    """One horizontal bar whose parts add up to at most `total`."""
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
        f'<rect width="100" height="10" class="empty"/>{"".join(cells)}</svg>'
    )


def nice(value: float) -> float:
    """The next round number that is not less: 1, 2, 2.5 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= value)


def _x(value: float, right: float) -> float:
    return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * value / right, 1)


def _y(value: float, top: float) -> float:
    return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * max(0.0, value) / top, 1)


def _path(points: Points, step: bool) -> str:
    path, before = [], None
    for x, y in points:
        if before is None:
            path.append(f"M{x} {y}")
        elif step:
            path.append(f"H{x}V{y}")
        else:
            path.append(f"L{x} {y}")
        before = y
    return "".join(path)


def _grid(right: float, top: float, unit: str, x_unit: str, x_ticks: int) -> str:
    parts = []
    for number in range(_TICKS + 1):
        value = top * number / _TICKS
        y = _y(value, top)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    places = ".0f" if right >= x_ticks else ".1f"
    for number in range(x_ticks + 1):
        moment = right * number / x_ticks
        anchor = "end" if number == x_ticks else "middle"
        parts.append(
            f'<text x="{_x(moment, right)}" y="{_HEIGHT - 8}" text-anchor="{anchor}">'
            f"{moment:{places}}{escape(x_unit)}</text>"
        )
    parts.append(f'<text class="unit" x="{_LEFT + 4}" y="{_TOP + 10}">{escape(unit)}</text>')
    return "".join(parts)


def _legend(names: Sequence[str]) -> str:
    items = "".join(
        f'<span><i style="background:{COLOURS[number % len(COLOURS)]}"></i>{escape(name)}</span>'
        for number, name in enumerate(names)
    )
    return f'<p class="legend">{items}</p>'
