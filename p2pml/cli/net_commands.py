"""`p2pml net …`: the connections of a node, and whom it does not speak to."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import columns, emit, emit_json, say, short
from p2pml.client import NodeClient
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MOST_S = 3650 * 86_400

group = typer.Typer(help="Look at the peers of this node, test and ban them.", no_args_is_help=True)

PeerArgument = Annotated[str, typer.Argument(help="a peer's id, its beginning or end, or its name")]


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="net")


@group.command("peers")
def peers(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """The connected peers: who opened the connection, round trip, clock, and what counts against each."""
    with NodeClient(Home.locate(home)) as node:
        found = node.get("/net/connections")
    if as_json:
        emit_json(found)
    elif found:
        rows = [
            (
                item["name"] or "–",
                item["peer_id"],
                item["direction"],
                "by relay" if item["relayed"] else item["address"],
                _number(item["rtt_ms"], "ms"),
                _number(item["clock_ms"], "ms", sign=True),
                f"{item['score']:.0f}",
            )
            for item in found
        ]
        emit(columns(("NAME", "PEER", "DIR", "ADDRESS", "RTT", "CLOCK", "SCORE"), rows, right=(4, 5, 6)))
    else:
        say("nobody is connected yet; `p2pml doctor` looks for reasons")


@group.command("ping")
def ping(
    peer: PeerArgument,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="how many times")] = 4,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """How long a message takes to a peer and back."""
    times: list[float] = []
    answer: dict[str, Any] = {}
    with NodeClient(Home.locate(home)) as node:
        for number in range(count):
            if number:
                time.sleep(min(1.0, 0.2 + times[-1] / 1000))
            answer = node.post("/net/ping", {"peer": peer})
            times.append(answer["rtt_ms"])
            if not as_json:
                emit(f"{answer['name'] or answer['peer_id']}: {answer['rtt_ms']:.2f} ms")
    if as_json:
        emit_json({"peer_id": answer["peer_id"], "name": answer["name"], "rtt_ms": times})
    elif count > 1:
        say(f"{count} answers: {min(times):.2f} ms at best, {sum(times) / count:.2f} ms on average")


@group.command("ban")
def ban(
    peer: PeerArgument,
    length: Annotated[
        str | None,
        typer.Option(
            "--for", help="how long, such as 90s, 30m, 1h, 7d; default: 10m, longer at each repetition"
        ),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="a note for yourself")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Disconnect a peer and do not speak to it for a while."""
    seconds = None if length is None else parse_length(length)
    with NodeClient(Home.locate(home)) as node:
        found = node.post("/net/bans", {"peer": peer, "seconds": seconds, "reason": reason[:200]})
    if as_json:
        emit_json(found)
    else:
        emit(f"{found['peer_id']} is banned for {show_length(found['left_s'])}")


@group.command("unban")
def unban(peer: PeerArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """End a peer's ban."""
    with NodeClient(Home.locate(home)) as node:
        found = node.delete(f"/net/bans/{quote(peer, safe='')}")
    if as_json:
        emit_json(found)
    else:
        emit(f"{found['peer_id']} is not banned any more")


@group.command("bans")
def bans(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Who is banned, until when and why."""
    with NodeClient(Home.locate(home)) as node:
        found = node.get("/net/bans")
    if as_json:
        emit_json(found)
    elif found:
        rows = [
            (item["peer_id"], item["name"] or "–", show_length(item["left_s"]), item["times"], item["reason"])
            for item in found
        ]
        emit(columns(("PEER", "NAME", "ENDS IN", "TIMES", "REASON"), rows, right=(2, 3)))
    else:
        say("nobody is banned")


def parse_length(text: str) -> int:
    """Seconds of a length such as `90s`, `30m`, `1h30m`, `7d`.

    Raises:
        UserError: not a length, or none from one second to ten years.
    """
    parts = re.findall(r"(\d{1,9})([smhd])", text)
    seconds = sum(int(number) * UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not 1 <= seconds <= MOST_S:
        raise UserError(
            f"{short(text, 40)!r} is not a length of time",
            "write it as 90s, 30m, 1h, 7d or 1h30m, ten years at most",
            ExitCode.USAGE,
        )
    return seconds


def show_length(seconds: int) -> str:
    """A length for people, by its two largest units: 5400 → `1h30m`."""
    found = []
    for unit, size in reversed(UNITS.items()):
        number, seconds = divmod(seconds, size)
        if number:
            found.append(f"{number}{unit}")
    return "".join(found[:2]) or "0s"


def _number(value: float | None, unit: str, sign: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value:+.0f} {unit}" if sign else f"{value:.1f} {unit}"
