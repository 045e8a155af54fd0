"""Pages that need nothing else: no script, no font, no picture from elsewhere; texts put in are escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

TOKEN = 10**8
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --good: #2a8a3c; --bad: #c62f2f;
  --warn: #a86c00 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem }
.verdict { display: inline-block; padding: .1rem .6rem; border-radius: .4rem; color: #fff; font-weight: 600 }
.good { background: var(--good) } .plain { background: #777 } .bad { background: var(--bad) }
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


def page(title: str, body: Iterable[str]) -> str:
    """A whole page.

    Args:
        title: of it, text.
        body: its parts, markup.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and what they are, one a line."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs) + "</dl>"


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], numbers: int) -> str:
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


def none(text: str) -> str:
    """What stands where there is nothing to show."""
    return f'<p class="none">{escape(text)}</p>'


def tokens(units: int | None) -> str:
    """Base units as tokens; a dash for none."""
    return "–" if units is None else f"{units / TOKEN:,.4f}"
