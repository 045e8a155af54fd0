"""A job's report as one HTML page: how it went, who took part and what they were paid, what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import accumulate
from typing import Any

from p2pml.report import html, svg

LAST_LINES = 500
"""So many lines of the log are shown."""


def render(job: Mapping[str, Any], spec: str, log: Sequence[Mapping[str, Any]]) -> str:
    """The page.

    Args:
        job: the answer of `/jobs/<id>`.
        spec: the job's spec, as it was given.
        log: the answer of `/jobs/<id>/log`.
    """
    title = f"{job['name']} {job['id']}"
    good = job["state"] == "done"
    bad = job["state"] in ("failed", "suspended")
    kind = "good" if good else "bad" if bad else "plain"
    body = [
        f'<h1>{escape(title)} <span class="verdict {kind}">{escape(job["end"] or job["state"])}</span></h1>',
        _facts(job, log),
        *_progress(job["history"]),
        "<h2>Participants</h2>",
        _participants(job),
        "<h2>Rounds</h2>",
        _rounds(job["history"]),
        "<h2>What happened</h2>",
        _log(log),
        f"<h2>Spec</h2><pre>{escape(spec)}</pre>",
    ]
    return html.page(title, body)


def _facts(job: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> str:
    reason = f": {job['reason']}" if job["reason"] else ""
    last = job["history"][-1] if job["history"] else None
    pairs = [
        ("state", job["state"] + reason),
        ("rounds", f"{len(job['history'])} of {job['rounds']}"),
        ("accuracy", "–" if last is None else f"{last['accuracy']:.2%}"),
        ("loss", "–" if last is None else f"{last['loss']:.4g}"),
        ("samples", f"{sum(item['samples'] for item in job['history']):,}"),
        ("time in rounds", f"{sum(item['seconds'] for item in job['history']):,.1f} s"),
        ("budget", f"{html.tokens(job['budget'])} tokens, {html.tokens(job['spent'])} of them earned"),
        ("price", f"{html.tokens(1000 * job['price'])} tokens for 1,000 samples"),
        ("job on the chain", job["chain_job"] or "none"),
        ("result", job["output"] or "none"),
    ]
    if log:
        pairs.insert(1, ("log", f"{_moment(log[0]['at'])} to {_moment(log[-1]['at'])}"))
    return html.facts(pairs)


def _progress(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Accuracy and loss by rounds, by samples and by the time that the rounds took."""
    places: dict[str, list[float]] = {
        "rounds": [float(item["round"]) for item in history],
        "samples trained on": list(accumulate(float(item["samples"]) for item in history)),
        "seconds in rounds": list(accumulate(float(item["seconds"]) for item in history)),
    }
    heights: dict[str, Callable[[Mapping[str, Any]], float]] = {
        "accuracy, %": lambda item: 100 * item["accuracy"],
        "loss": lambda item: item["loss"],
    }
    parts = []
    for what, of in heights.items():
        parts.append(f"<h2>{escape(what.partition(',')[0].capitalize())}</h2>")
        for by, xs in places.items():
            points = list(zip(xs, map(of, history), strict=True))
            parts.append(svg.line_chart("", by, what, {what: points}, 960, 240))
    return parts


def _participants(job: Mapping[str, Any]) -> str:
    """Each one's shards, work and pay; the bar is its share of all samples."""
    total = sum(peer["samples"] for peer in job["peers"])
    rows = "".join(
        f"<tr><td>{escape(peer['name'] or peer['peer'])}</td><td>{escape(_how(peer))}</td>"
        f"<td>{escape(' '.join(map(str, peer['clients'])))}</td>"
        f'<td class="bar">{svg.bar({"samples": peer["samples"]}, total, {"samples": svg.COLOURS[0]})}</td>'
        f'<td class="n">{peer["samples"]:,}</td><td class="n">{_share(peer["samples"], total)}</td>'
        f'<td class="n">{html.tokens(peer["earned"])}</td></tr>'
        for peer in job["peers"]
    )
    names = ("trainer", "state", "shards", "", "samples", "share", "earned")
    kinds = ("", "", "", "", ' class="n"', ' class="n"', ' class="n"')
    head = "".join(f"<th{kind}>{name}</th>" for kind, name in zip(kinds, names, strict=True))
    return f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>' if rows else html.none("nobody")


def _how(peer: Mapping[str, Any]) -> str:
    return ": ".join(filter(None, (str(peer["state"]), str(peer["reason"]))))


def _share(part: int, total: int) -> str:
    return f"{part / total:.1%}" if total else "–"


def _rounds(history: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            item["round"], f"{item['accuracy']:.2%}", f"{item['loss']:.4g}", f"{item['seconds']:.1f}",
            f"{item['samples']:,}", item["clients"],
        )
        for item in history
    ]  # fmt: skip
    headers = ("round", "accuracy", "loss", "seconds", "samples", "updates")
    return html.table(headers, rows, numbers=6) or html.none("none was finished")


def _log(log: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"{_moment(line['at'])}  {line['text']}" for line in log[-LAST_LINES:]]
    return f"<pre>{escape(chr(10).join(lines))}</pre>" if lines else html.none("the log is gone")


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
