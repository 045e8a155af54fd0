"""`p2pml chain params`: the rules of the chain, and what of them is being decided on."""

from __future__ import annotations

from typing import Any

from p2pml.cli.chain_commands import group
from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import columns, emit, emit_json, fields, short, tokens
from p2pml.client import NodeClient
from p2pml.home import Home

_AMOUNTS = ("min_fee", "issuance_per_block", "bond")
_VOTED = ("baseline_infohash", "q_min", "q_ref")


def register() -> None:
    group.command("params")(params)


def params(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """All parameters, the baseline that holds and is coming, and the open proposals to change it."""
    with NodeClient(Home.locate(home)) as node:
        answer = node.get("/parameters")
    if as_json:
        emit_json(answer)
        return
    rules = [
        (name, f"{tokens(value)} tokens" if name in _AMOUNTS else value)
        for name, value in answer["params"].items()
        if name not in _VOTED
    ]
    baseline = [("baseline", _baseline(answer["baseline"]))]
    coming = [(f"from epoch {item['epoch']}", _baseline(item["baseline"])) for item in answer["coming"]]
    emit(fields([*rules, ("epoch now", answer["epoch"]), *baseline, *coming]))
    if not answer["proposals"]:
        emit("no open proposals")
        return
    rows = [
        (
            item["id"][:16],
            _baseline(item["baseline"]),
            item["proposer_name"] or short(item["proposer"]),
            f"{item['support']} of {item['needed']}",
            max(item["last_slot"] - answer["slot"] + 1, 0),
        )
        for item in answer["proposals"]
    ]
    emit(columns(("PROPOSAL", "BASELINE", "BY", "SUPPORT", "SLOTS LEFT"), rows, right=(4,)))


def _baseline(item: dict[str, Any]) -> str:
    where = item["dataset"] or item["infohash"]
    return f"{where}, quality {item['q_min'] / 1e6:.4g} to {item['q_ref'] / 1e6:.4g}"
