"""A run's report as one HTML page that needs nothing else: no script, no font, no picture from elsewhere.

Everything that a node or a file said is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from p2pml.report import svg

if TYPE_CHECKING:
    from p2pml.lab.run.report import Job, Report
    from p2pml.lab.run.timeline import Sample

_TOKEN = 10**8
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --good: #2a8a3c; --bad: #c62f2f;
  --warn: #a86c00 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem }
.verdict { display: inline-block; padding: .1rem .6rem; border-radius: .4rem; color: #fff; font-weight: 600 }
.good { background: var(--good) } .bad { background: var(--bad) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 1rem 0 }
dt { opacity: .65 } dd { margin: 0 }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
.wide + .wide, svg + table, p + svg { margin-top: 1.2rem }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top }
th { font-weight: 600; opacity: .65 } td.n, th.n { text-align: right }
td.at { white-space: nowrap; opacity: .65 } td.bar { width: 40% }
tr.step td { background: var(--soft); font-weight: 600 } tr.failure { color: var(--bad) }
tr.check, .ok { color: var(--good) } .fail { color: var(--bad) } tr.skipped { color: var(--warn) }
svg { width: 100%; height: auto; display: block }
svg.bar { height: 1rem }
.none { opacity: .65 } pre { background: var(--soft); padding: .8rem; overflow-x: auto; font-size: 13px }
"""


def render(report: Report) -> str:
    """The page."""
    verdict = "all went well" if report.ok else f"{len(report.failures)} failed"
    title = f"{report.scenario} on {report.backend}"
    body = [
        f'<h1>{escape(title)} <span class="verdict {"good" if report.ok else "bad"}">{verdict}</span></h1>',
        _facts(report),
        _checks(report),
        "<h2>Chain heads</h2>",
        _heads(report),
        "<h2>Balances</h2>",
        _balances(report),
        *_ratings(report),
        *(_job(job) for job in report.jobs),
        "<h2>Swarms: verified bytes by source</h2>",
        _swarms(report),
        "<h2>Traffic and processor time</h2>",
        _usage(report),
        "<h2>Timeline</h2>",
        _timeline(report),
        f"<h2>Scenario</h2><pre>{escape(report.text)}</pre>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _facts(report: Report) -> str:
    mechanism = {"none": "none: this place has no links to shape", "nfqueue": "NFQUEUE stand-in for netem"}
    pairs = [
        ("where", report.described),
        ("delay and loss by", mechanism.get(report.shaping, report.shaping)),
        ("each node's link", report.link),
        ("began", f"{report.began}, took {report.seconds:.0f} s"),
        ("machine", report.machine),
        ("time to finality", _finality(report)),
    ]
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs) + "</dl>"


def _finality(report: Report) -> str:
    found = report.finality
    if found is None:
        return "nothing became final"
    return f"median {found.median_s:g} s, 95 % within {found.p95_s:g} s, {found.blocks} blocks on all nodes"


def _checks(report: Report) -> str:
    rows = [
        f'<tr><td class="{"ok" if item.ok else "fail"}">{"✓" if item.ok else "✗"}</td>'
        f"<td>{escape(item.name)}</td><td>{escape(item.text)}</td></tr>"
        for item in report.checks
    ]
    known = {f"{item.name}: {item.text}" for item in report.checks}
    rows += [
        f'<tr class="failure"><td>✗</td><td>step</td><td>{escape(text)}</td></tr>'
        for text in report.failures
        if text not in known
    ]
    rows += [
        f'<tr class="skipped"><td>–</td><td></td><td>{escape(text)}</td></tr>' for text in report.skipped
    ]
    return f'<h2>Checks</h2><div class="wide"><table>{"".join(rows)}</table></div>' if rows else ""


def _heads(report: Report) -> str:
    series = {
        name: [(item.at, float(item.height)) for item in samples if item.head]
        for name, samples in report.samples.items()
    }
    marks = [(item.at, f"{item.node} {item.text}") for item in report.events if _is_fault(item.text)]
    return _chart("seconds", "height", series, marks=marks, end=report.seconds, step=True)


def _is_fault(text: str) -> bool:
    return text.startswith(("killed", "started again", "frozen", "goes on", "partition for", "healed"))


def _balances(report: Report) -> str:
    rows = []
    for node in report.nodes:
        before, after = node.first_balance, node.last_balance
        change = None if before is None or after is None else after - before
        role = ", ".join(
            [*(["founder"] if node.founder else ["newcomer"]), *(["trainer"] if node.trainer else [])]
        )
        money = map(_tokens, (before, after, change))
        rows.append((node.name, role, node.state, node.height, *money))
    return _table(("node", "role", "at the end", "height", "before", "after", "change"), rows, numbers=4)


def _ratings(report: Report) -> list[str]:
    """The rating of each node by epochs, and the leaderboard at the end; nothing where no window passed."""
    if not any(item.outcomes for item in report.ratings):
        return []
    series = {
        name: [(float(epoch), float(rating)) for epoch, rating in by_epoch(samples).items()]
        for name, samples in report.samples.items()
    }
    rows = [
        (
            item.name, item.rating, f"{item.share:.1%}", "–" if item.segments is None else item.segments,
            "–" if item.quality is None else f"{item.quality / 1e4:.2f} %",
            "–" if item.samples_per_joule is None else item.samples_per_joule,
            f"{item.windows} of {item.outcomes}",
        )
        for item in report.ratings
    ]  # fmt: skip
    headers = ("node", "rating", "chance", "segments", "quality", "samples/J", "windows rated")
    chart = _chart("epoch", "rating", series, step=True)
    return ["<h2>Ratings by epoch</h2>", chart, _table(headers, rows, numbers=6)]


def by_epoch(samples: Sequence[Sample]) -> dict[int, int]:
    """A node's rating at the end of each epoch in which it answered."""
    return {sample.epoch: sample.rating for sample in samples if sample.epoch >= 0}


def _job(job: Job) -> str:
    spent = f"{_tokens(job.spent)} of {_tokens(job.budget)} tokens paid"
    reason = f" ({job.reason})" if job.reason else ""
    said = f"asked for by {job.requester}, {job.state}{reason}; {spent}"
    rows = [
        (number, f"{item['accuracy']:.1%}", f"{item['loss']:.3f}", item.get("samples", "–"))
        for number, item in enumerate(job.rounds, start=1)
    ]
    trainers = [
        (peer["name"], peer["state"], peer["reason"], peer["samples"], _tokens(peer["earned"]))
        for peer in job.trainers
    ]
    return (
        f"<h2>Job {escape(job.name)}</h2><p>{escape(said)}</p>"
        + _chart("round", "accuracy, %", {"accuracy": _accuracy(job)})
        + _table(("round", "accuracy", "loss", "samples"), rows, numbers=3)
        + _table(("trainer", "state", "", "samples", "earned"), trainers, numbers=2)
    )


def _chart(
    x_label: str,
    y_label: str,
    series: Mapping[str, svg.Points],
    *,
    marks: Sequence[tuple[float, str]] = (),
    end: float | None = None,
    step: bool = False,
) -> str:
    """A chart as wide as the page."""
    return svg.line_chart("", x_label, y_label, series, 960, 270, marks=marks, end=end, step=step)


def _accuracy(job: Job) -> list[tuple[float, float]]:
    return [(float(number), 100 * item["accuracy"]) for number, item in enumerate(job.rounds, start=1)]


def _swarms(report: Report) -> str:
    names = [node.name for node in report.nodes]
    colours = {name: svg.COLOURS[i % len(svg.COLOURS)] for i, name in enumerate(names)}
    rows = "".join(
        f"<tr><td>{escape(item.node)}</td><td>{escape(item.dataset)}</td>"
        f'<td class="bar">{svg.bar(item.sources, sum(item.sources.values()), colours)}</td>'
        f"<td>{escape(_sources(item.sources))}</td></tr>"
        for item in report.swarms
    )
    head = "<tr><th>node</th><th>dataset</th><th></th><th>sources</th></tr>"
    return f'<div class="wide"><table>{head}{rows}</table></div>' if rows else _none("nothing was fetched")


def _sources(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {_bytes(count)}" for name, count in sorted(found.items()) if count)


def _usage(report: Report) -> str:
    what = "at its network interface" if report.wire else "of datasets, verified"
    rows = [
        (node.name, _bytes(node.received), _bytes(node.sent), f"{node.cpu_s:.1f} s", _bytes(node.rss_peak))
        for node in report.nodes
    ]
    received = {
        name: [(item.at, item.received / 1e6) for item in samples] for name, samples in report.samples.items()
    }
    cpu = {name: [(item.at, item.cpu_s) for item in samples] for name, samples in report.samples.items()}
    return (
        f"<p>bytes are counted {what}; processor time is daemon and worker together</p>"
        + _table(("node", "received", "sent", "processor", "most memory"), rows, numbers=4)
        + _chart("seconds", "MB received", received, end=report.seconds)
        + _chart("seconds", "seconds of processor", cpu, end=report.seconds)
    )


def _timeline(report: Report) -> str:
    rows = "".join(
        f'<tr class="{escape(item.kind)}"><td class="n at">{item.at:.1f} s</td><td>{escape(item.node)}</td>'
        f"<td>{escape(item.text)}</td></tr>"
        for item in report.events
    )
    return f'<div class="wide"><table>{rows}</table></div>'


def _table(headers: Sequence[str], rows: Iterable[Sequence[object]], numbers: int) -> str:
    """A table whose last `numbers` columns are numbers."""
    first = len(headers) - numbers

    def cells(tag: str, row: Sequence[object]) -> str:
        kinds = ["" if place < first else ' class="n"' for place in range(len(row))]
        return "".join(
            f"<{tag}{kind}>{escape(str(cell))}</{tag}>" for kind, cell in zip(kinds, row, strict=True)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    if not body:
        return ""
    return f'<div class="wide"><table><tr>{cells("th", headers)}</tr>{body}</table></div>'


def _none(text: str) -> str:
    return f'<p class="none">{escape(text)}</p>'


def _tokens(units: int | None) -> str:
    return "–" if units is None else f"{units / _TOKEN:,.4f}"


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.2f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
