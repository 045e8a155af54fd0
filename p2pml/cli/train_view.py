"""The picture of a running job, built from the daemon's events: a live table on a terminal, lines elsewhere.

Events of a job, all with `job` (its id):

* `job.state`: `state`, `reason`, and when known `name`, `rounds`, `budget`. `done`, `failed` and `stopped`
end a job, `suspended` interrupts it. * `job.note`: `text`, what it waits for or does now.
* `job.round`: `round` (1-based, just finished), `rounds`, `accuracy`, `loss`, `seconds`, `escrow` (base units
left). * `job.peer`: `peer`, `name`, `state`, `samples`, `earned` (base units so far).

`gap` stands for events that are not kept any more: the job's record tells what they did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from p2pml.cli.output import about, is_live, say, short, sparkline
from p2pml.client import ApiEvent, NodeClient
from p2pml.errors import ExitCode, UserError
from p2pml.job_output import FINAL_STATES

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(slots=True)
class TrainView:
    """What is known of one job so far; `apply` takes events in order and says what is worth a line of
    text.
    """

    job: str
    name: str = ""
    state: str = "starting"
    reason: str = ""
    note: str = ""
    round: int = 0
    rounds: int = 0
    budget: int = 0
    escrow: int | None = None
    accuracies: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def is_over(self) -> bool:
        return self.state in FINAL_STATES

    def apply(self, event: ApiEvent) -> str | None:
        """Take one event in; returns a line about it, or None when it is not worth one."""
        handler = {
            "job.state": self._on_state,
            "job.note": self._on_note,
            "job.round": self._on_round,
            "job.peer": self._on_peer,
        }.get(event.kind)
        return handler(event.data) if handler else None

    def catch_up(self, record: dict[str, Any]) -> str:
        """Take the job's record in, where events were missed; returns a line about it."""
        history = record["history"]
        self.name, self.note = record["name"], record["note"]
        self.state, self.reason = record["state"], record["reason"]
        self.round, self.rounds = len(history), record["rounds"]
        self.budget, self.escrow = record["budget"], record["budget"] - record["spent"]
        self.accuracies = [item["accuracy"] for item in history]
        self.seconds = [item["seconds"] for item in history]
        self.peers = {item["peer"]: dict(item) for item in record["peers"]}
        return f"{self.label}: {self.state}, round {self.round}/{self.rounds}"

    def _on_state(self, data: dict[str, Any]) -> str:
        self.state = str(data.get("state", self.state))
        self.reason = str(data.get("reason") or "")
        self.name = str(data.get("name") or self.name)
        self.rounds = int(data.get("rounds") or self.rounds)
        self.budget = int(data.get("budget") or self.budget)
        self.note = ""
        return f"{self.label}: {self.state}" + (f" ({self.reason})" if self.reason else "")

    def _on_note(self, data: dict[str, Any]) -> str:
        self.note = str(data.get("text", ""))
        return f"{self.label}: {self.note}"

    def _on_round(self, data: dict[str, Any]) -> str | None:
        if int(data["round"]) <= self.round:
            return None  # the record told it before
        self.round = int(data["round"])
        self.rounds = int(data.get("rounds") or self.rounds)
        if data.get("accuracy") is not None:
            self.accuracies.append(float(data["accuracy"]))
        if data.get("seconds") is not None:
            self.seconds.append(float(data["seconds"]))
        if data.get("escrow") is not None:
            self.escrow = int(data["escrow"])
        parts = [f"round {self.round}/{self.rounds}"]
        if self.accuracies:
            parts.append(f"accuracy {self.accuracies[-1]:.3f}")
        if data.get("loss") is not None:
            parts.append(f"loss {float(data['loss']):.3f}")
        if self.seconds:
            parts.append(f"{self.seconds[-1]:.1f} s")
        if self.escrow is not None:
            parts.append(f"escrow {about(self.escrow)}")
        return f"{self.label}: " + ", ".join(parts)

    def _on_peer(self, data: dict[str, Any]) -> None:
        known = self.peers.setdefault(str(data.get("peer", "")), {})
        known.update({key: value for key, value in data.items() if value is not None})

    @property
    def label(self) -> str:
        return f"{self.name or 'job'} {short(self.job, 8)}"

    def headline(self) -> str:
        """The first line of the live display."""
        parts = [self.label, f"ROUND {self.round}/{self.rounds or '?'}", self.note or self.state]
        return "  ".join(parts)

    def summary(self) -> str:
        """The second line: accuracy, how long it may still take, what is left to pay."""
        parts = []
        if self.accuracies:
            parts.append(f"acc {self.accuracies[-1]:.3f} {sparkline(self.accuracies)}")
        if self.seconds and self.rounds > self.round and not self.is_over():
            recent = sorted(self.seconds[-9:])
            left = recent[len(recent) // 2] * (self.rounds - self.round)
            parts.append(f"ETA {self.rounds - self.round} rounds, {int(left) // 60}m{int(left) % 60:02d}")
        if self.budget:
            escrow = self.budget if self.escrow is None else self.escrow
            parts.append(f"escrow {about(escrow)}/{about(self.budget)}")
        return " | ".join(parts)

    def render(self) -> RenderableType:
        """The live display: two lines and a table of the peers."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        for title, justify in (
            ("peer", "left"),
            ("state", "left"),
            ("samples", "right"),
            ("earned", "right"),
        ):
            table.add_column(title, justify="right" if justify == "right" else "left")
        for peer, data in self.peers.items():
            table.add_row(
                Text(str(data.get("name") or short(peer, 14))),
                Text(" ".join(filter(None, (str(data.get("state", "")), _reason(data))))),
                str(data.get("samples", 0)),
                about(int(data.get("earned", 0))),
            )
        return Group(Text(self.headline()), Text(self.summary()), table)


def _reason(data: dict[str, Any]) -> str:
    return f"({data['reason']})" if data.get("reason") else ""


def follow_job(
    node: NodeClient, view: TrainView, after: int, also: Callable[[ApiEvent], None] | None = None
) -> None:
    """Show a job's events until it ends.

    Args:
        node: a connected client.
        view: updated in place.
        after: id of the last event before the job's first.
        also: told every event, for what the caller wants to add.

    Raises:
        UserError: (code 3) the daemon ended before the job did.
    """
    if is_live():
        from rich.console import Console
        from rich.live import Live

        with Live(view.render(), console=Console(stderr=True), refresh_per_second=4) as live:
            _consume(node, view, after, lambda line: live.update(view.render()), also)
            live.update(view.render())
    else:
        _consume(node, view, after, lambda line: say(line) if line else None, also)


def _consume(
    node: NodeClient,
    view: TrainView,
    after: int,
    show: Callable[[str | None], None],
    also: Callable[[ApiEvent], None] | None,
) -> None:
    if _ended(node, view):
        return
    for event in node.events(after=after, job=view.job):
        missed = event.kind == "gap"
        show(view.catch_up(node.get(f"/jobs/{view.job}")) if missed else view.apply(event))
        if also is not None:
            also(event)
        if view.is_over() and _ended(node, view):
            return
    raise UserError(
        "the daemon ended before the job did",
        "start it again: the job goes on at its last finished round",
        ExitCode.DAEMON_DOWN,
    )


def _ended(node: NodeClient, view: TrainView) -> bool:
    """Whether a job is over now, as its record says: one that ended long ago may have no events left, and an
    old event may tell of a suspension that its owner has ended since."""
    record = node.get(f"/jobs/{view.job}")
    if record["state"] not in FINAL_STATES:
        return False
    view.state, view.reason = record["state"], str(record.get("reason") or "")
    return True
