"""What people see of a job: its record for the API, and the events that tell its progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from p2pml.node.events import Events
from p2pml.node.job_members import MemberRecord

FINAL_STATES = frozenset({"done", "failed", "stopped"})


@dataclass(slots=True)
class JobView:
    """One job as shown by `p2pml job show`.

    Args:
        id: of the job on this node.
        name, origin: from its spec, and where that came from.
        rounds: most rounds.
        budget: base units.
        events: told every change.

    Attributes:
        state: `preparing`, `waiting`, `running`, `settling`, then `done`, `failed` or `stopped`; `suspended`
            while this node's disk refuses to keep it.
        reason: why it failed, stopped or was suspended.
        fix: what to do about a failure; empty when there is nothing to do.
        chain_job: id of its JOB_OPEN transaction, hexadecimal; empty before.
        history: one record per finished round.
    """

    id: str
    name: str
    origin: str
    rounds: int
    budget: int
    events: Events
    state: str = "preparing"
    reason: str = ""
    chain_job: str = ""
    price: int = 0
    output: str = ""
    text: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    members: dict[str, MemberRecord] = field(default_factory=dict)
    fix: str = ""

    @classmethod
    def ended(cls, job_id: str, record: dict[str, Any], state: str, reason: str, events: Events) -> JobView:
        """A job that ended before the node was started, from what `full` said of it then."""
        view = cls(
            job_id, record["name"], record["origin"], record["rounds"], record["budget"], events, state,
            reason, record["chain_job"], record["price"], record["output"], "", record["history"],
        )  # fmt: skip
        view.fix = record.get("fix", "")
        for peer in record["peers"]:
            view.members[peer["peer"]] = MemberRecord(**peer)
        return view

    @property
    def over(self) -> bool:
        return self.state in FINAL_STATES

    @property
    def spent(self) -> int:
        """What trainers have earned so far, base units."""
        return min(self.budget, sum(record.earned for record in self.members.values()))

    def enter(self, state: str, reason: str = "") -> None:
        """Change the state and tell it."""
        self.state, self.reason, self.text = state, reason, ""
        self.events.emit(
            "job.state", job=self.id, state=state, reason=reason,
            name=self.name, rounds=self.rounds, budget=self.budget,
        )  # fmt: skip

    def note(self, text: str) -> None:
        """Tell what is done or waited for."""
        if text != self.text:
            self.text = text
            self.events.emit("job.note", job=self.id, text=text)

    def round_done(self, record: dict[str, Any]) -> None:
        """Tell that a round is over."""
        self.history.append(record)
        self.events.emit(
            "job.round", job=self.id, rounds=self.rounds, escrow=self.budget - self.spent, **record
        )

    def peer_changed(self, record: MemberRecord) -> None:
        """Tell a participant's state."""
        self.events.emit("job.peer", job=self.id, **_peer(record))

    def summary(self) -> dict[str, Any]:
        """A line of `job ls`."""
        last = self.history[-1] if self.history else {}
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "reason": self.reason,
            "round": len(self.history),
            "rounds": self.rounds,
            "accuracy": last.get("accuracy"),
            "loss": last.get("loss"),
        }

    def full(self) -> dict[str, Any]:
        """All of `job show`."""
        return {
            **self.summary(),
            "origin": self.origin,
            "note": self.text,
            "fix": self.fix,
            "chain_job": self.chain_job,
            "price": self.price,
            "budget": self.budget,
            "spent": self.spent,
            "output": self.output,
            "history": self.history,
            "peers": [_peer(record) for record in self.members.values()],
        }


def _peer(record: MemberRecord) -> dict[str, Any]:
    return {
        "peer": record.peer,
        "name": record.name,
        "clients": list(record.clients),
        "state": record.state,
        "reason": record.reason,
        "samples": record.samples,
        "earned": record.earned,
    }
