"""What must be true of rating windows, looked up at every live node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from p2pml.errors import UserError
from p2pml.lab.run.checks import Getter, Result

FEWEST = 3
"""Nodes that have to earn a rating, or a window is void."""


def closed_windows(windows: Mapping[str, Any] | None) -> int:
    """How many regular windows a node has seen closed since the network was founded."""
    latest = None if windows is None else windows["latest"]
    if windows is None or latest is None:
        return 0
    return int(latest["start"]) // int(windows["every_slots"]) - (not latest["over"])


def earned(nodes: Mapping[str, Getter]) -> Result:
    """Every node tells the same leaderboard, and on it at least `FEWEST` validators have earned a rating,
    which is what their outcomes give.
    """
    try:
        boards = {name: _board(api) for name, api in nodes.items()}
        one = next(iter(nodes.values()))
        found = [one.get(f"/ratings/{address}") for address in next(iter(boards.values()))]
    except UserError as error:
        return Result("ratings", False, f"a node does not answer: {error.cause}")
    if len({tuple(board.items()) for board in boards.values()}) != 1:
        return Result("ratings", False, f"the nodes tell different ratings: {boards}")
    rated = {item["name"]: item["rating"] for item in found if item["earned"]}
    if wrong := [item["name"] for item in found if item["earned"] and item["rating"] != item["earned"]]:
        return Result("ratings", False, f"{wrong[0]} has another rating than it has earned")
    told = ", ".join(f"{name} {rating}" for name, rating in rated.items())
    if len(rated) < FEWEST:
        return Result("ratings", False, f"{len(rated)} validators have earned a rating: {told or 'nobody'}")
    return Result("ratings", True, f"{len(rated)} of {len(found)} validators have earned one: {told}")


def _board(api: Getter) -> dict[str, int]:
    """Ratings by account."""
    return {item["address"]: item["rating"] for item in api.get("/ratings")}
