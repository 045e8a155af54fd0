"""`p2pml rating …`: ratings, what they are made of, and the windows that give them."""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import columns, emit, emit_json, fields, say
from p2pml.client import NodeClient
from p2pml.home import Home

WhoArgument = Annotated[
    str | None, typer.Argument(metavar="NODE", help="a name or an address; default: this node")
]

REASONS = {
    "no claim": "it committed to nothing",
    "not revealed": "it did not show how the drawn episodes do",
    "disproved": "an accusation of its claim held",
    "not served": "it did not answer a challenge",
    "poor": "what it trained has not the least quality",
    "impossible": "it told less energy than its work needs",
    "little": "it did about one segment a minute, or less",
}

group = typer.Typer(help="Ratings: see one, take it apart, compare them all.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="rating")


@group.command("show")
def show(who: WhoArgument = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """A validator's rating, its last windows, and when the next one starts."""
    with NodeClient(Home.locate(home)) as node:
        found = node.get(_path(who))
        windows = node.get("/rating/windows")
    if as_json:
        emit_json({**found, "windows": windows})
        return
    emit(
        fields(
            [
                ("name", found["name"]),
                ("rating", f"{found['rating']}{_ends(found)}"),
                ("chance", _odds(found["odds"][0])),
                ("next window", "this network has none" if windows is None else _next(windows)),
                *([] if windows is None or windows["latest"] is None else _latest(windows["latest"])),
            ]
        )
    )
    if found["outcomes"]:
        emit("\n" + _outcomes(found["outcomes"]))


@group.command("explain")
def explain(who: WhoArgument = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Each term of a validator's rating, what it gives in the draw, and what would raise it."""
    with NodeClient(Home.locate(home)) as node:
        found = node.get(_path(who))
    if as_json:
        emit_json(found)
        return
    emit(fields(explained(found)))
    for line in found["advice"]:
        say(line)


@group.command("leaderboard")
def leaderboard(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every validator, the highest rating first; segments and energy are of its latest window."""
    with NodeClient(Home.locate(home)) as node:
        found = node.get("/ratings")
    if as_json:
        emit_json(found)
        return
    rows = [
        (
            item["place"],
            item["name"] + (" (this node)" if item["own"] else ""),
            item["rating"],
            f"{item['share']:.1%}",
            "–" if item["segments"] is None else item["segments"],
            "–" if item["quality"] is None else f"{item['quality'] / 1e4:.2f}%",
            _per_joule(item["energy"]),
            f"{item['rated']} of {item['outcomes']}" if item["outcomes"] else "–",
            "–" if item["expires_epochs"] is None else item["expires_epochs"],
        )
        for item in found
    ]
    headers = ("", "NAME", "RATING", "CHANCE", "SEGMENTS", "QUALITY", "SAMPLES/J", "WINDOWS", "EXPIRES")
    emit(columns(headers, rows, right=(0, *range(2, 9))))


@group.command("windows")
def windows(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """When the next rating window starts, and how far the latest one is."""
    with NodeClient(Home.locate(home)) as node:
        found = node.get("/rating/windows")
    if as_json:
        emit_json(found)
        return
    if found is None:
        say("this network has no rating windows: its ratings are those of the genesis")
        return
    every = found["every_slots"] * found["slot_ms"] / 1000
    emit(
        fields(
            [
                ("next window", _next(found)),
                ("regular ones", f"every {found['every_slots']} slots ({_span(every)})"),
                *([] if found["latest"] is None else _latest(found["latest"])),
            ]
        )
    )
    if found["latest"] is None:
        return
    latest = found["latest"]
    rows = [
        (
            "→" if latest["phase"] == phase else "",
            phase["name"],
            phase["first"],
            phase["end"],
            _local(phase["start_ms"]),
        )
        for phase in latest["phases"]
    ]
    emit("\n" + columns(("", "PHASE", "FROM SLOT", "BEFORE", "BEGINS"), rows, right=(2, 3)))


def explained(found: dict[str, Any]) -> list[tuple[str, object]]:
    """A rating for people: the number, then each term of it."""
    rows: list[tuple[str, object]] = [("name", found["name"]), ("rating", f"{found['rating']}{_ends(found)}")]
    if found["barred_epochs"]:
        rows.append(("barred", f"for {found['barred_epochs']} more finalized epochs"))
    if found["earned"] is None:
        rows.append(("", "given by the genesis; no window has ended since it registered"))
    else:
        share = f"{found['delivered'] / 1e6:.3f}"
        rows.append(("earned", f"{found['earned']} = {found['median']} x {share} delivered work"))
        rows.append(("median", f"{found['median']}, the lower one of {_listed(found['outcomes'])}"))
        duties, missed = (sum(item[name] for item in found["outcomes"]) for name in ("duties", "missed"))
        rows.append(("delivered", f"x {share}: {duties - missed} of {duties} audits reported"))
        rows += [row for item in found["outcomes"] for row in _terms(item)]
    energy = found["energy"]
    if energy is not None:
        told = f"{energy['joules']} J, {_per_joule(energy)} samples/J" if energy["joules"] else "not told"
        rows.append(("energy", f"{told}, for {energy['segments']} segments from slot {energy['window']}"))
    now, later = found["odds"]
    rows.append(("chance now", f"{_odds(now)}, epoch {now['epoch']}"))
    rows.append(("from epoch", f"{later['epoch']}: {_odds(later)}, as far as it is decided"))
    return rows


def window_line(found: dict[str, Any], now_ms: float) -> str:
    """The window in `p2pml status`: where it is, and what this node has done in it."""
    left = max(found["ends_ms"] - now_ms, 0) / 1000
    parts = [f"of slot {found['start']}: {found['phase']}, {left:.0f} s left"]
    if found["segments"] is not None:
        parts.append(f"{found['segments']} segments here")
    if found["committed"]:
        parts.append("committed")
    return ", ".join(parts)


def _terms(item: dict[str, Any]) -> list[tuple[str, object]]:
    """An outcome in two lines: what it gave, and from what."""
    seconds = item["window_ms"] / 1000
    name = f"slot {item['window']}"
    if item["reason"] != "rated":
        return [(name, f"0: {REASONS.get(item['reason'], item['reason'])}")]
    quality, energy = item["quality_factor"] / 1e6, item["energy_factor"] / 1e6
    return [
        (name, f"{item['rating']} = {item['segments']} segments x 60 / {seconds:g} s x quality x energy"),
        ("", f"quality x {quality:.3f}, from {item['quality'] / 1e4:.2f}%; energy x {energy:.3f}"),
    ]


def _outcomes(outcomes: list[dict[str, Any]]) -> str:
    rows = [
        (
            item["window"],
            _local(item["start_ms"]),
            item["rating"],
            item["segments"],
            f"{item['quality_factor'] / 1e6:.3f}",
            f"{item['energy_factor'] / 1e6:.3f}",
            f"{item['duties'] - item['missed']}/{item['duties']}",
            item["reason"],
        )
        for item in outcomes
    ]
    headers = ("WINDOW", "STARTED", "RATING", "SEGMENTS", "QUALITY", "ENERGY", "AUDITS", "OUTCOME")
    return columns(headers, rows, right=(0, *range(2, 7)))


def _path(who: str | None) -> str:
    return "/rating" if who is None else f"/ratings/{quote(who, safe='')}"


def _ends(found: dict[str, Any]) -> str:
    if not found["rating"]:
        return ""
    if found["expires_epochs"] is None:
        return ", without an end of its own"
    return f", for {found['expires_epochs']} more finalized epochs (until {_local(found['expires_ms'])})"


def _odds(item: dict[str, Any]) -> str:
    return f"{item['share']:.2%} of being drawn first for a slot, by weight {item['weight']}"


def _next(found: dict[str, Any]) -> str:
    left = (found["begins"] - found["slot"]) * found["slot_ms"] / 1000
    return f"slot {found['next']}, training from {_local(found['begins_ms'])} on, in {_span(left)}"


def _latest(window: dict[str, Any]) -> list[tuple[str, object]]:
    kind = "surprise window" if window["surprise"] else "window"
    state = "void" if window["void"] else "over" if window["phase"] is None else window["phase"]["name"]
    counts = f"{window['claims']} commitments, {window['revealed']} revealed, {window['reports']} reports"
    found: list[tuple[str, object]] = [
        (kind, f"of slot {window['start']}, {window['slots']} slots of training: {state}"),
        ("", counts),
    ]
    if window["disproved"] or window["open_challenges"]:
        more = f"{window['disproved']} disproved, {window['open_challenges']} challenges open"
        found.append(("", more))
    return found


def _listed(outcomes: list[dict[str, Any]]) -> str:
    return ", ".join(str(item["rating"]) for item in outcomes)


def _per_joule(energy: dict[str, Any] | None) -> str:
    """Samples per joule, or a dash where nobody told."""
    known = None if energy is None else energy["samples_per_joule"]
    return "–" if known is None else str(known)


def _local(unix_ms: int) -> str:
    """A moment in this machine's time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_ms / 1000))


def _span(seconds: float) -> str:
    """Seconds for people: the two largest units."""
    whole = max(round(seconds), 0)
    for size, name, small, part in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // small} {part}"
    return f"{whole} s"
