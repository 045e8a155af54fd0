"""Carries out one round: feeds the round machine with what the sessions report, and does what it says."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from chain.training_records import Receipt
from p2pml.node.job_members import MemberRecord, Members
from p2pml.node.job_session import Delivered, GlobalModel, PeerSession, Report
from p2pml.node.job_store import JobStore, Receipted, RoundDone
from p2pml.training import round as machine
from p2pml.training.sampling import sample_size, sampled

MIN_AUTO_DEADLINE_S = 60.0
AUTO_DEADLINE = 1.5
"""A round may take so many times the median of those before."""
LOOK_S = 1.0
"""How often a round looks whether the chain still takes it: what peers report can keep it going for ever."""
TOO_LATE = "too late: round {} is over"


class RoundError(Exception):
    """The round has no result; the message says why."""


def auto_deadline(rounds: Sequence[RoundDone]) -> float:
    """The deadline of the next round, seconds, from those before; infinite while none was seen whole and
    without a pause.

    The first round includes what happens once (downloads, tracing, warm-up): it counts while it is alone.
    """
    whole = [done.seconds for done in rounds if not (done.resumed or done.paused)]
    if not whole:
        return math.inf
    known = whole[1:] or whole
    return max(MIN_AUTO_DEADLINE_S, AUTO_DEADLINE * statistics.median(known))


@dataclass(slots=True)
class RoundRunner:
    """Runs the rounds of one job.

    Args:
        members: who takes part.
        store: where receipts are journaled.
        samples: of each client, times epochs.
        fraction: share of the clients that take part in each round.
        seed: of the job.
        refused: told each update that is not wanted: its peer, round, client and the reason.
        check_open: raises UserError when the chain takes no more rounds of the job.
        spare: how many more clients train than the round needs; the first that deliver count.

    Attributes:
        paused: seconds for which the deadline of the latest round stood still, over all its attempts.
    """

    members: Members
    store: JobStore
    samples: Mapping[int, int]
    fraction: float
    seed: int
    refused: Callable[[MemberRecord, int, int, str], None]
    check_open: Callable[[], None]
    spare: int = 0
    paused: float = 0.0
    _number: int = -1
    _cut: Counter[str] = field(default_factory=Counter)
    """How many attempts at the latest round were cut short while a peer was still at work."""
    _look_at: float = -math.inf
    _spares: dict[int, str] = field(default_factory=dict)
    """Of the round that is aggregated: the clients whose updates are still on their way, and from whom."""

    def clients(self, number: int) -> tuple[int, ...]:
        """Who takes part in a round."""
        return sampled(len(self.samples), self.fraction, self.seed, number, self.spare)

    async def run(self, number: int, model: GlobalModel, deadline: float) -> list[Receipted]:
        """One round from `model`; updates of an earlier attempt at the same round count.

        Args:
            number: from 0.
            model: what everybody starts from.
            deadline: seconds; infinite for none.

        Returns:
            the updates that count, in client order.

        Raises:
            RoundError: too few updates.
            UserError: the chain takes no more rounds of the job.
        """
        delivered = self.store.receipted(number)
        await self._drain(number)
        if number != self._number:
            self._number, self.paused, self._cut = number, 0.0, Counter()
        current = self._begin(number, deadline, delivered)
        try:
            return await self._to_its_end(current, number, model, delivered)
        finally:
            self.paused += current.paused

    def _begin(self, number: int, deadline: float, delivered: Mapping[int, Receipted]) -> machine.Round:
        works = tuple(self._work(client) for client in self.clients(number))
        limits = self.members.limits
        config = machine.RoundConfig(
            works,
            limits.quorum,
            limits.stall,
            deadline,
            tuple((c, item.peer) for c, item in delivered.items()),
            sample_size(len(self.samples), self.fraction),
            machine.MAX_PAUSE_S - self.paused,
        )
        return machine.Round(config, trio.current_time(), [session.peer for session in self.members.ready])

    def _work(self, client: int) -> machine.Work:
        """Who kept an attempt waiting comes after the other holders in the next: one slow peer shall not have
        all attempts. Where everybody did, nothing changes, and an owner's client stays the owner's."""
        placed = self.members.placement
        holders = sorted(placed.holders(client), key=lambda peer: self._cut[peer])
        return machine.Work(client, tuple(holders), placed.bound)

    async def _to_its_end(
        self, current: machine.Round, number: int, model: GlobalModel, delivered: dict[int, Receipted]
    ) -> list[Receipted]:
        effects = current.tick(trio.current_time())
        while True:
            for effect in effects:
                match effect:
                    case machine.RoundComplete(chosen, spares):
                        self._spares = dict(spares)
                        await self.store.note_chosen(number, [client for client, _ in chosen])
                        return [delivered[client] for client, _ in chosen]
                    case machine.RoundFailed(reason):
                        self._cut.update(peer for peer, client in current.tasks.items() if client is not None)
                        raise RoundError(reason)
                    case _:
                        self._carry_out(number, model, effect)
            effects = await self._next(current, number, delivered)

    async def _next(
        self, current: machine.Round, number: int, delivered: dict[int, Receipted]
    ) -> list[machine.Effect]:
        """Wait for a report or for the machine's next deadline; now and then look at the chain."""
        if trio.current_time() >= self._look_at:
            self.check_open()
            self._look_at = trio.current_time() + LOOK_S
        wake = current.deadline()
        with trio.move_on_at(self._look_at if wake is None else min(wake, self._look_at)) as scope:
            report = await self.members.reports.receive()
        if scope.cancelled_caught:
            return current.tick(trio.current_time())
        if report.round is not None and report.round != number:
            return []
        effects = current.receive(report.event, trio.current_time())
        if report.delivered is not None and not _refused(effects, report.delivered):
            await self._give_receipt(report, report.delivered, delivered)
        return effects

    async def _give_receipt(self, report: Report, update: Delivered, delivered: dict[int, Receipted]) -> None:
        """Countersign: on disk first, so that a crash leaves nobody with a receipt that we do not know."""
        keys = self.members.parts.keys
        receipt = Receipt.countersign(update.commitment, update.trainer_sig, keys)
        item = await self.store.note_delivery(update, receipt)
        delivered[item.client] = item
        record = self.members.records[update.peer]
        record.failures = 0
        record.samples += item.samples
        record.earned += item.samples * self.members.terms.price
        self.members.changed(record)
        self.members.start(report.session.countersign, report.session, receipt)

    def _carry_out(self, number: int, model: GlobalModel, effect: machine.Effect) -> None:
        match effect:
            case machine.Assign(peer, client):
                session = self.members.session(peer)
                if session is not None:
                    samples = self.samples[client]
                    task = session.expect(number, client, samples, model)
                    self.members.start(session.assign, session, task)
            case machine.Pull(peer, _):
                session = self.members.session(peer)
                if session is not None:
                    self.members.start(session.pull, session)
            case machine.Refuse(peer, client, reason):
                session = self.members.session(peer)
                if session is not None:
                    self._refuse(session, number, client, reason)
            case machine.Drop(peer, reason, banned):
                self.members.drop(peer, reason, banned=banned)

    async def close(self, number: int) -> list[Receipt]:
        """End a round that has its model: spares that came while it was made are paid, later ones are not.

        Returns:
            everything that the round owes, in client order.
        """
        await self._drain(number)
        for client, peer in self._spares.items():
            session = self.members.session(peer)
            if session is not None:
                self._refuse(session, number, client, TOO_LATE.format(number + 1))
        self._spares = {}
        return [item.receipt for _, item in sorted(self.store.receipted(number).items())]

    def _refuse(self, session: PeerSession, number: int, client: int, reason: str) -> None:
        self.refused(self.members.records[session.peer], number, client, reason)
        self.members.start(session.refuse, session, number, client, reason)

    async def _drain(self, number: int) -> None:
        """Take what was reported while no machine was listening; a new one starts from who is ready now."""
        while True:
            try:
                report = self.members.reports.receive_nowait()
            except trio.WouldBlock:
                return
            match report.event:
                case machine.UpdateReceived(peer, client) if (
                    report.delivered and report.round == number and self._spares.get(client) == peer
                ):
                    del self._spares[client]
                    await self._give_receipt(report, report.delivered, {})
                case machine.CommitReceived(_, client) | machine.UpdateReceived(_, client):
                    round_ = report.round or 0
                    self._refuse(report.session, round_, client, TOO_LATE.format(round_ + 1))
                case machine.UpdateBad(peer, _, reason):
                    self.members.drop(peer, reason, banned=True)


def _refused(effects: list[machine.Effect], update: Delivered) -> bool:
    """Whether the machine does not want this update; others' may be refused because it ended the round."""
    mine = update.peer, update.commitment.client
    return any(
        isinstance(effect, machine.Refuse) and (effect.peer, effect.client) == mine for effect in effects
    )
