"""What people see of a job: its record for the API, and the events that tell its progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from p2pml.errors import ExitCode, job_end
from p2pml.node.events import Events
from p2pml.node.job_members import MemberRecord
from p2pml.storage.job_log import JobLog

FINAL_STATES = frozenset({"done", "failed", "stopped"})
_LOGGED = ("joined", "left", "dropped")


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
        log: of the job, for people; None where nothing is added to it any more.
        end: one of the words of `p2pml.errors.JOB_ENDS`; empty while it goes on.
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
    end: str = ""
    log: JobLog | None = None
    _logged: dict[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def ended(cls, job_id: str, record: dict[str, Any], entry: dict[str, Any], events: Events) -> JobView:
        """A job that ended before the node was started.

        Args:
            job_id: its id.
            record: what `full` said of it then.
            entry: the end in its journal.
            events: of the node.
        """
        view = cls(
            job_id, record["name"], record["origin"], record["rounds"], record["budget"], events,
            entry["state"], entry["reason"], record["chain_job"], record["price"], record["output"], "",
            record["history"],
        )  # fmt: skip
        view.fix = record.get("fix", "")
        view.end = entry.get("end", entry["state"])  # journals of before had but the state
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

    def enter(self, state: str, reason: str = "", code: ExitCode | None = None) -> None:
        """Change the state and tell it; `code` says how the job ended, if it did."""
        self.state, self.reason, self.text = state, reason, ""
        self.end = "" if code is None else job_end(code)
        self._write(": ".join(filter(None, (state, reason, self.fix if self.end else ""))))
        self.events.emit(
            "job.state", job=self.id, state=state, reason=reason, end=self.end,
            name=self.name, rounds=self.rounds, budget=self.budget,
        )  # fmt: skip

    def note(self, text: str) -> None:
        """Tell what is done or waited for."""
        if text != self.text:
            self.text = text
            self._write(text)
            self.events.emit("job.note", job=self.id, text=text)

    def round_done(self, record: dict[str, Any]) -> None:
        """Tell that a round is over."""
        self.history.append(record)
        self._write(
            f"round {record['round']} of {self.rounds} done: accuracy {record['accuracy']:.1%}, "
            f"loss {record['loss']:.4g}, {record['seconds']:.1f} s, {record['clients']} updates, "
            f"{record['samples']} samples"
        )
        self.events.emit(
            "job.round", job=self.id, rounds=self.rounds, escrow=self.budget - self.spent, **record
        )

    def peer_changed(self, record: MemberRecord) -> None:
        """Tell a participant's state; its coming and going is worth a line in the log."""
        said = record.state, record.detail or record.reason
        if record.state in _LOGGED and self._logged.get(record.peer) != said:
            self._logged[record.peer] = said
            name = record.name or record.peer[-8:]
            self._write(f"{name} {record.state}" + (f": {said[1]}" if said[1] else ""))
        self.events.emit("job.peer", job=self.id, **_peer(record))

    def refused(self, record: MemberRecord, round_: int, client: int, reason: str) -> None:
        """Tell that a peer's work is not wanted; `round_` counts from 0."""
        number, name = round_ + 1, record.name or record.peer[-8:]
        self._write(f"round {number}: the work of {name} on client {client} is refused: {reason}")
        self.events.emit(
            "job.refused", job=self.id, peer=record.peer, name=record.name, round=number, client=client,
            reason=reason,
        )  # fmt: skip

    def _write(self, text: str) -> None:
        if self.log is not None:
            self.log.write(text)

    def summary(self) -> dict[str, Any]:
        """A line of `job ls`."""
        last = self.history[-1] if self.history else {}
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "reason": self.reason,
            "end": self.end,
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
