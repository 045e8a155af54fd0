"""A dataset as `p2pml data info` prints it."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from p2pml.cli.output import columns, fields, short, size

_LONG_S = 100 * 86_400
PIECE_SIGNS = "# here  + partly  . missing  - not wanted"


def describe(answer: dict[str, Any], tars: list[dict[str, Any]] | None = None) -> str:
    """Facts, files, peers, and the members of its tar files where they were asked for."""
    parts = [_facts(answer)]
    files = [(item["index"], size(item["size"]), _priority(item), item["path"]) for item in answer["files"]]
    parts.append(columns(("#", "SIZE", "PRIORITY", "FILE"), files, right=(0, 1, 2)))
    if exchange := _exchange(answer):
        headers = ("PEER", "RECEIVED", "SHARE", "SENT", "DOWN", "UP", "HAS", "CLIENT")
        parts.append(columns(headers, exchange, right=(1, 2, 3, 4, 5, 6)))
    parts += [_tar(tar, answer) for tar in tars or ()]
    return "\n\n".join(parts)


def _priority(item: dict[str, Any]) -> str:
    """The file's own, and those of its byte ranges."""
    ranges = (f"{part['begin']}-{part['end']}={part['priority']}" for part in item["ranges"])
    return " ".join([str(item["priority"] or "not wanted"), *ranges])


def state_of(answer: dict[str, Any]) -> str:
    """One word or two: how far it is."""
    here = answer["wanted"] - answer["missing"]
    state = "complete" if answer["complete"] else f"{here} of {answer['wanted']} wanted pieces"
    return ", ".join(
        [state, *(["paused"] if answer["paused"] else []), *(["private"] if answer["private"] else [])]
    )


def copies_of(answer: dict[str, Any]) -> str:
    """How often it is there: `DatasetView.copies`, rounded down, so that 1.00 is a whole one."""
    return f"{math.floor(answer['copies'] * 100) / 100:.2f} copies with this node's"


def ready_in(answer: dict[str, Any]) -> str:
    """The time until all that is wanted is here, as h:mm:ss."""
    seconds = answer["eta_s"]
    if seconds is None:
        return "unknown"
    return str(timedelta(seconds=math.ceil(seconds))) if seconds < _LONG_S else "more than 100 days"


def _facts(answer: dict[str, Any]) -> str:
    v2 = answer["infohash_v2"]
    return fields(
        [
            ("name", answer["name"]),
            ("infohash", answer["infohash"]),
            *([("v2", v2)] if v2 else []),
            ("size", f"{size(answer['size'])} in {answer['pieces']} pieces"),
            ("state", state_of(answer)),
            ("map", f"{answer['piece_map']}  ({PIECE_SIGNS})"),
            ("peers", f"{answer['peers']}, {copies_of(answer)}"),
            ("rates", f"{size(answer['rate_down'])}/s down, {size(answer['rate_up'])}/s up"),
            *([] if answer["complete"] else [("ready in", ready_in(answer))]),
            ("files in", answer["folder"] + (" (your own)" if answer["in_place"] else "")),
            ("torrent", answer["torrent_file"]),
            *([("problem", answer["problem"])] if answer["problem"] else []),
        ]
    )


def _exchange(answer: dict[str, Any]) -> list[tuple[object, ...]]:
    """A row for each peer that gave, took, or is connected."""
    links = {link["peer"]: link for link in answer["links"]}
    total = max(1, sum(answer["sources"].values()))
    rows: list[tuple[object, ...]] = []
    for peer in dict.fromkeys([*answer["sources"], *answer["sent"], *links]):
        received, link = answer["sources"].get(peer, 0), links.get(peer)
        rows.append(
            (
                peer if peer.startswith("tcp:") else short(peer, 20),
                size(received),
                f"{received / total:.0%}",
                size(answer["sent"].get(peer, 0)),
                None if link is None else f"{size(link['rate_down'])}/s",
                None if link is None else f"{size(link['rate_up'])}/s",
                None if link is None else f"{link['pieces']}/{answer['pieces']}",
                (link or {}).get("client") or None,
            )
        )
    return rows


def _tar(tar: dict[str, Any], answer: dict[str, Any]) -> str:
    paths = {item["index"]: item["path"] for item in answer["files"]}
    rows = [(size(member["size"]), member["offset"], member["name"]) for member in tar["members"]]
    lines = columns(("SIZE", "AT BYTE", f"IN {paths[tar['file']]}"), rows, right=(0, 1))
    if tar["problem"]:
        lines += f"\nthe archive is damaged from here on: {tar['problem']}"
    elif tar["more"]:
        lines += "\n… and more: --members shows as many as you say"
    return lines
