"""The picture of a job from its events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from p2pml.cli.train_view import TrainView, follow_job
from p2pml.client import ApiEvent


def events(*items: tuple[str, dict[str, Any]]) -> list[ApiEvent]:
    return [ApiEvent(number, kind, {"job": "ab" * 16, **data}) for number, (kind, data) in enumerate(items)]


def test_lines_and_state_of_a_job() -> None:
    view = TrainView("ab" * 16)
    story = events(
        ("job.state", {"state": "waiting", "name": "digits", "rounds": 2, "budget": 10**9}),
        ("job.note", {"text": "waiting for 2 more peers (1 of 3 joined)"}),
        ("job.state", {"state": "running"}),
        ("job.peer", {"peer": "12D3a", "name": "node2", "state": "training", "samples": 0}),
        ("job.round", {"round": 1, "accuracy": 0.5, "loss": 1.2, "seconds": 4.0, "escrow": 6 * 10**8}),
        ("job.peer", {"peer": "12D3a", "state": "paid", "samples": 40, "earned": 10**8}),
        ("chain.head", {"height": 3}),
        ("job.round", {"round": 2, "accuracy": 0.9, "seconds": 3.0}),
        ("job.state", {"state": "done"}),
    )
    lines = [view.apply(event) for event in story]
    assert lines[1] == "digits abababab…: waiting for 2 more peers (1 of 3 joined)"
    assert lines[4] == "digits abababab…: round 1/2, accuracy 0.500, loss 1.200, 4.0 s, escrow 6.00"
    assert lines[6] is None
    assert view.is_over()
    assert view.accuracies == [0.5, 0.9]
    assert view.peers["12D3a"]["name"] == "node2"
    assert view.peers["12D3a"]["earned"] == 10**8
    assert "acc 0.900 ▁█" in view.summary()
    assert "escrow 6.00/10.00" in view.summary()


def test_the_live_table_draws(capsys: Any) -> None:
    from rich.console import Console

    view = TrainView("ab" * 16)
    for event in events(
        ("job.state", {"state": "running", "name": "digits", "rounds": 9, "budget": 10**9}),
        ("job.round", {"round": 3, "accuracy": 0.5, "seconds": 10.0}),
        ("job.peer", {"peer": "12D3a", "name": "[red]x", "state": "training", "samples": 5, "earned": 0}),
    ):
        view.apply(event)
    console = Console(width=100, force_terminal=False)
    console.print(view.render())
    drawn = capsys.readouterr().out
    assert "ROUND 3/9" in drawn
    assert "ETA 6 rounds, 1m00" in drawn
    assert "[red]x" in drawn, "names are text, not markup"


def test_a_failure_says_why() -> None:
    view = TrainView("ab" * 16)
    (event,) = events(("job.state", {"state": "failed", "reason": "nobody joined"}))
    assert view.apply(event) == "job abababab…: failed (nobody joined)"
    assert view.is_over()


@dataclass
class Daemon:
    """What `NodeClient` is for a job: its events, and what its record says after so many of them."""

    story: list[ApiEvent]
    records: dict[int, str]
    told: int = 0
    rounds: int = 0

    def get(self, path: str) -> dict[str, Any]:
        history = [{"accuracy": number / 10, "seconds": 2.0} for number in range(1, 1 + self.rounds)]
        state = self.records.get(self.told, "running")
        return {
            "state": state, "reason": "", "name": "digits", "note": "", "rounds": 9, "budget": 10**9,
            "spent": 4 * 10**8, "history": history, "peers": [{"peer": "12D3a", "earned": 10**8}],
        }  # fmt: skip

    def events(self, **query: Any) -> Iterator[ApiEvent]:
        for event in self.story:
            self.told += 1
            yield event


def test_a_suspension_that_its_owner_has_ended_is_no_end() -> None:
    story = events(
        ("job.state", {"state": "running"}),
        ("job.state", {"state": "suspended", "reason": "this node's disk"}),
        ("job.state", {"state": "running"}),
        ("job.state", {"state": "done"}),
    )
    view, daemon = TrainView("ab" * 16), Daemon(story, {4: "done"})
    follow_job(daemon, view, 0)  # type: ignore[arg-type]
    assert (view.state, view.reason, daemon.told) == ("done", "", 4)
    view, daemon = TrainView("ab" * 16), Daemon(story, {2: "suspended"})
    follow_job(daemon, view, 0)  # type: ignore[arg-type]
    assert (view.state, daemon.told) == ("suspended", 2)


def test_after_a_gap_the_record_tells_what_was_missed(capsys: Any) -> None:
    story = events(
        ("job.round", {"round": 1, "rounds": 9, "accuracy": 0.1}),
        ("gap", {"after": 1}),
        ("job.round", {"round": 3, "rounds": 9, "accuracy": 0.3}),  # the record has it already
        ("job.round", {"round": 4, "rounds": 9, "accuracy": 0.4}),
        ("gap", {"after": 4}),
    )
    view, daemon = TrainView("ab" * 16), Daemon(story, {5: "done"}, rounds=3)
    follow_job(daemon, view, 0)  # type: ignore[arg-type]
    assert (view.state, view.rounds, daemon.told) == ("done", 9, 5)
    assert view.escrow == 6 * 10**8
    assert view.peers["12D3a"]["earned"] == 10**8
    told = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1].split(",")[0] for line in told] == [
        "round 1/9", "running", "round 4/9", "done",
    ]  # fmt: skip
