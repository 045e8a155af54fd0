"""Figures of the consensus studies, as SVG. Needs matplotlib: the extra `plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"rating": "#4269d0", "richest": "#efb118", "uniform": "#3ca951", "work": "#ff725c"}
_PLAIN = "#4269d0"


def draw(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw what the document has; returns the files. Raises ImportError without matplotlib."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    found = []
    with rc_context({"svg.hashsalt": "p2pml", "svg.fonttype": "none", "font.size": 9}):
        for study, fill in (("rules", _rules), ("attacks", _attacks)):
            if study in document["studies"]:
                figure = Figure(figsize=(9.5, 6.5), layout="constrained")
                fill(figure, document)
                found.append(folder / f"consensus-{study}.svg")
                figure.savefig(found[-1], metadata={"Date": None})
    return found


def _rules(figure: Figure, document: Mapping[str, Any]) -> None:
    axes = figure.subplots(2, 2)
    runs = [row for row in document["runs"] if row["study"] == "rules" and "violated" not in row]
    rules = [rule for rule in _COLOURS if any(row["rule"] == rule for row in runs)]
    _lorenz(axes[0, 0], runs, rules)
    parts = document["parts"]
    _bars(axes[0, 1], parts, rules, "blocks_gini", "Gini of the blocks; line: of what the rule goes by")
    for place, rule in enumerate(rules):
        axes[0, 1].hlines(parts[rule]["weights_gini"]["mean"], place - 0.4, place + 0.4, color="black")
    _bars(axes[1, 0], parts, rules, "missed", "share of slots without a block that lasted")
    shown = document.get("costs", [])
    names = ["drawn, as measured", "work, 20,000 hashes", "work, one core each"]
    values = [shown[0]["network"], shown[1]["network"], shown[1]["full_scale"]] if shown else [0, 0, 0]
    axes[1, 1].bar(names, values, color=[_COLOURS["rating"], _COLOURS["work"], _COLOURS["work"]])
    axes[1, 1].set(yscale="log", title="CPU seconds per block, whole network")


def _lorenz(axes: Axes, runs: Sequence[Mapping[str, Any]], rules: Sequence[str]) -> None:
    for rule in rules:
        for number, row in enumerate(row for row in runs if row["rule"] == rule):
            shares = [0.0, *accumulate(sorted(row["blocks"]))]
            steps = [place / (len(shares) - 1) for place in range(len(shares))]
            label = rule if number == 0 else None
            axes.plot(steps, shares, color=_COLOURS[rule], label=label, linewidth=1, alpha=0.7)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.set(title="share of the blocks", xlabel="validators, those with least first")
    axes.legend()


def _bars(axes: Axes, parts: Mapping[str, Any], names: Sequence[str], figure: str, title: str) -> None:
    means = [parts[name][figure]["mean"] for name in names]
    errors = [parts[name][figure]["error"] or 0.0 for name in names]
    axes.bar(names, means, yerr=errors, capsize=3, color=[_COLOURS.get(name, _PLAIN) for name in names])
    axes.set_title(title)


def _attacks(figure: Figure, document: Mapping[str, Any]) -> None:
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    parts = {name: part for name, part in document["parts"].items() if "gain_over_draw" in part}
    means = [part["gain_over_draw"]["mean"] for part in parts.values()]
    errors = [part["gain_over_draw"]["error"] or 0.0 for part in parts.values()]
    left.barh(list(parts), means, xerr=errors, capsize=3, color=_PLAIN)
    left.axvline(1.0, color="black", linewidth=0.8)
    left.invert_yaxis()
    left.set(title="blocks over draws of the coalition (1: no gain)")
    tails = document.get("tail", [])
    right.errorbar(
        [100 * tail["weight"] for tail in tails],
        [100 * (tail["blocks"] - tail["weight"]) for tail in tails],
        yerr=[100 * tail["error"] for tail in tails],
        marker="o", color=_PLAIN, label="this chain, one epoch ahead",
    )  # fmt: skip
    published = [tail for tail in tails if tail["randao"] is not None]
    right.plot(
        [100 * tail["weight"] for tail in published],
        [100 * (tail["randao"] - tail["weight"]) for tail in published],
        marker="x", linestyle="--", color="#ff725c", label="RANDAO, optimal (2024)",
    )  # fmt: skip
    right.set(title="tail withholding", xlabel="% of the rating", ylabel="points gained")
    right.legend(loc="upper left", fontsize=7)
