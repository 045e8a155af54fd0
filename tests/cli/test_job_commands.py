"""`p2pml job logs`: every line once, and the last ones too; `job show`."""

from __future__ import annotations

from typing import Any, cast

import pytest

from p2pml.cli import job_commands
from p2pml.client import NodeClient


class Node:
    """Its job gets a line between any two looks at it, and is over after the third look."""

    def __init__(self) -> None:
        self.looks = 0
        self.lines: list[str] = []

    def get(self, path: str, after: int = 0) -> Any:
        self.lines.append(f"line {len(self.lines) + 1}")
        if not path.endswith("/log"):
            self.looks += 1
            return {"id": "0123456789abcdef", "state": "done" if self.looks == 3 else "running"}
        assert path == "/jobs/0123456789abcdef/log"
        return [{"number": i + 1, "at": 0.0, "text": text} for i, text in enumerate(self.lines) if i >= after]


@pytest.mark.parametrize(("follow", "count"), [(False, 2), (True, 6)])
def test_every_line_once_and_with_follow_until_the_end(
    follow: bool, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_commands, "LOOK_S", 0)
    node = Node()
    told = [line["text"] for line in job_commands.log_lines(cast(NodeClient, node), "0123", follow)]
    assert told == [f"line {number}" for number in range(1, count + 1)]
    assert told == node.lines


@pytest.mark.parametrize(
    ("state", "end", "reason", "told"),
    [
        ("running", "", "", "running"),
        ("done", "done", "", "done"),
        ("failed", "no-trainers", "nobody came", "failed (no-trainers): nobody came"),
    ],
)
def test_show_tells_how_it_ended(state: str, end: str, reason: str, told: str) -> None:
    record = {"name": "x", "id": "01", "round": 1, "rounds": 2, "accuracy": None}
    shown = job_commands.describe_job({**record, "state": state, "end": end, "reason": reason})
    assert [line.split(None, 1)[1] for line in shown.splitlines() if line.startswith("state")] == [told]


def _record(**changed: Any) -> dict[str, Any]:
    return {
        "name": "x", "id": "01", "state": "running", "end": "", "reason": "", "round": 1, "rounds": 2,
        "accuracy": None, "fix": "", **changed,
    }  # fmt: skip


def _peer(name: str, state: str, reason: str, clients: range) -> dict[str, Any]:
    return {
        "peer": "12D3KooW", "name": name, "state": state, "reason": reason, "samples": 123_456,
        "earned": 150_000_000, "clients": list(clients),
    }  # fmt: skip


def test_show_tells_why_each_peer_last_left_within_100_columns() -> None:
    long = "dropped: the worker failed: the training ran out of memory and was ended by the system"
    peers = [
        _peer("node1", "left", "dropped: no progress on client 3 for 30 s", range(4)),
        _peer("node2", "ready", "", range(12)),
        _peer("node3", "left", long, range(4)),
    ]
    table = job_commands.describe_job(_record(peers=peers)).split("\n\n")[1].splitlines()
    assert table[0].split() == ["PEER", "STATE", "SHARDS", "SAMPLES", "EARNED", "REASON"]
    assert table[1].endswith("  dropped: no progress on client 3 for 30 s")
    assert table[2].endswith("1.5")
    told = table[3].partition("1.5  ")[2]
    assert told.endswith("…")
    assert long.startswith(told[:-1])
    assert max(map(len, table)) == 100


def test_show_leaves_some_room_for_reasons_beside_many_shards() -> None:
    peers = [_peer("node1", "left", "its stream ended: reset by peer", range(100))]
    assert "  its stream ended" in job_commands.describe_job(_record(peers=peers))


@pytest.mark.parametrize(
    ("state", "end", "shown"),
    [("failed", "no-trainers", True), ("suspended", "suspended", True), ("running", "", False)],
)
def test_show_tells_what_to_do_about_a_job_that_ended(state: str, end: str, shown: bool) -> None:
    record = _record(state=state, end=end, fix="start more trainers")
    assert ("fix       start more trainers" in job_commands.describe_job(record)) is shown
