"""The result of `tests.bench.rating_network` as a page of `docs/results`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def page(found: dict[str, Any]) -> str:
    """Markdown."""
    parameters, draws = found["parameters"], found["draws"]
    minutes = found["seconds"] / 60
    names = sorted({name for window in found["windows"] for name in window["nodes"]})
    changed = ", ".join(f"`{key}` {value}" for key, value in parameters.items() if key != "preset")
    head = (
        "# Ratings on a network\n\nMade by `python -m tests.bench.rating_network`: six daemons on a machine"
        f" of {found['machine']['cores']} cores, {minutes:.0f} minutes, preset `{parameters['preset']}` but"
        f" for {changed}. Each node trains in one lane that may use {parameters['cap']} % of a core.\n"
    )
    checks = _table(
        ("check", "holds", "seen"),
        [
            (name, "yes" if item["ok"] else "**no**", _plain(item["seen"]))
            for name, item in found["checks"].items()
        ],
    )
    active = _table(
        ("window", *names),
        [(window["number"], *(_rating(window, name) for name in names)) for window in found["windows"]],
    )
    work = _table(
        ("window", *names),
        [(window["number"], *(_work(window, name) for name in names)) for window in found["windows"]],
    )
    against = _table(
        ("node", "drawn first", "expected"),
        zip(draws["accounts"], draws["drawn"], draws["expected"], strict=True),
    )
    return "\n".join(
        [
            head, checks,
            "\nRating in force after each window (what the window alone gave):\n", active,
            "\nSegments in each window, quality, audits reported of those drawn for:\n", work,
            f"\nThe baseline is MNIST (`{found['baseline']['infohash']}`) from epoch"
            f" {found['baseline']['from_epoch']} on. The newcomer had"
            f" {found['newcomer']['balance_when_it_joined']} tokens when it joined.\n",
            f"Draws of {draws['slots']} slots under {draws['tables']} tables: chi-square"
            f" {draws['chi_square']} with {draws['degrees']} degrees of freedom, p = {draws['p']:.4f}.\n",
            against, "",
        ]
    )  # fmt: skip


def _rating(window: dict[str, Any], name: str) -> str:
    item = window["nodes"].get(name)
    if item is None:
        return "–"
    own = "–" if item["outcome"] is None else item["outcome"]
    return f"{item['rating']} ({own})"


def _work(window: dict[str, Any], name: str) -> str:
    item = window["nodes"].get(name)
    if item is None or item["outcome"] is None:
        return "–"
    if item["reason"] != "rated":
        return str(item["reason"])
    audits = f"{item['duties'] - item['missed']}/{item['duties']}"
    return f"{item['segments']}, {item['quality'] / 1e4:.1f} %, {audits}"


def _plain(seen: object) -> str:
    return ", ".join(map(str, seen)) if isinstance(seen, list) else str(seen)


def _table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
