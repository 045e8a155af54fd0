"""The lab's look at rating windows, against nodes that say what a test wants them to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from p2pml.errors import ExitCode, UserError
from p2pml.lab.run.page import by_epoch, render
from p2pml.lab.run.ratings import closed_windows, earned
from p2pml.lab.run.timeline import Sample
from tests.lab.test_report import _report


@dataclass
class _Says:
    """A node whose validators have these ratings; `earned` where it is not the same."""

    ratings: dict[str, int]
    earned: dict[str, int | None]

    def get(self, path: str, **_query: Any) -> Any:
        if path == "/ratings":
            return [{"address": name, "rating": rating} for name, rating in self.ratings.items()]
        name = path.rpartition("/")[2]
        rating = self.ratings[name]
        return {"name": name, "rating": rating, "earned": self.earned.get(name, rating)}


class _Silent:
    def get(self, path: str, **_query: Any) -> Any:
        raise UserError("no daemon is running", "", ExitCode.DAEMON_DOWN)


THREE = {"a": 30, "b": 20, "c": 10}


def test_three_that_have_earned_their_ratings_are_enough() -> None:
    found = earned({"n1": _Says(THREE, {}), "n2": _Says(THREE, {})})
    assert found.ok, found.text
    assert "3 of 3 validators have earned one: a 30, b 20, c 10" in found.text


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([_Says(THREE, {"a": None})], "2 validators have earned"),
        ([_Says(THREE, {"a": 0})], "2 validators have earned"),
        ([_Says(THREE, {"b": 25})], "b has another rating than it has earned"),
        ([_Says(THREE, {}), _Says(THREE | {"c": 11}, {})], "different ratings"),
        ([_Says(THREE, {}), _Silent()], "does not answer"),
    ],
)
def test_what_is_wrong_with_ratings_is_told(nodes: list[Any], says: str) -> None:
    found = earned({f"n{number}": node for number, node in enumerate(nodes)})
    assert not found.ok
    assert says in found.text


@pytest.mark.parametrize(
    ("latest", "closed"),
    [
        (None, 0),
        ({"start": 64, "over": False}, 0),
        ({"start": 64, "over": True}, 1),
        ({"start": 192, "over": False}, 2),
    ],
)
def test_windows_that_are_closed_are_counted(latest: dict[str, Any] | None, closed: int) -> None:
    assert closed_windows({"every_slots": 64, "latest": latest}) == closed
    assert closed_windows(None) == 0


def test_the_chart_has_a_nodes_last_rating_of_each_epoch() -> None:
    looks = [(1, 10), (1, 12), (-1, -1), (2, 15)]
    samples = [
        Sample(float(at), "up", rating=rating, epoch=epoch) for at, (epoch, rating) in enumerate(looks)
    ]
    assert by_epoch(samples) == {1: 12, 2: 15}
    page = render(_report("plain"))
    assert "<h2>Ratings by epoch</h2>" in page
    assert "94.00 %" in page
