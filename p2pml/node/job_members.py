"""Who takes part in a job: invitations, sessions, and where the shards are.

Peers are invited as they appear and may come back after they were lost, unless they were banned. A session's
end is reported to the round that runs; what to do about it is decided there.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from p2pml.errors import ExitCode, UserError
from p2pml.net.errors import RemoteError
from p2pml.net.train import PROTOCOL, Channel
from p2pml.node.job_session import PeerSession, Refused, Report
from p2pml.node.ports import NodeParts, Trainer
from p2pml.node.terms import JobTerms
from p2pml.training import round as machine
from p2pml.training.placement import Owned, Placement
from p2pml.training.spec import PeersSpec

log = logging.getLogger(__name__)

LOOK_S = 0.5
RETRY_S = 5.0
REFUSED_RETRY_S = 15.0
GRACE_S = 3.0
"""Once enough peers have joined, how long others may still come in before the first round."""
MAX_FAILURES = 5
MAX_PROGRESS = 1024
"""Reports that may wait while a peer only says that it is at work; between rounds nobody reads them."""


def eligible(trainers: list[Trainer], limits: PeersSpec) -> list[Trainer]:
    """Who may be invited, the idle and strong first."""
    able = [trainer for trainer in trainers if trainer.rating >= limits.min_rating]
    return sorted(able, key=lambda trainer: (trainer.busy, -trainer.rating, trainer.peer))


def waiting_text(here: int, needed: int, what: str = "", state: str = "") -> str:
    """What people read while peers are missing, or miss something."""
    missing = needed - here
    state = state or ("ready" if what else "joined")
    return f"waiting for {missing} more peer{'s' if missing != 1 else ''}{what} ({here} of {needed} {state})"


@dataclass(slots=True)
class MemberRecord:
    """What is known of a peer over all its sessions.

    Args:
        reason: why its last session ended, in one line; `detail` is all that it said, a traceback perhaps.
        samples, earned: over all rounds, base units.
        failures: how often it was dropped since it last delivered.
        retry_at: when it may be invited again, seconds of trio's clock.
        clients: whose shards it was last asked to hold, those that it trains first.
    """

    peer: str
    name: str
    state: str = "invited"
    reason: str = ""
    detail: str = ""
    account: bytes = b""
    samples: int = 0
    earned: int = 0
    failures: int = 0
    banned: bool = False
    retry_at: float = 0.0
    clients: Sequence[int] = ()


@dataclass(slots=True)
class Members:
    """The participants of one job.

    Args:
        parts: of the node.
        terms: of the job.
        limits: how many, how strong.
        metainfo: of the torrent with one file per client; empty where the participants own the data.
        shapes: of the model's weights.
        placement: which peer holds which client's shard.
        spool: folder for updates.
        delivered: hashes of the updates that the job has, and for which round and client.
        note: tells people what is waited for.
        changed: called when what people see of a peer changed.
        only: who may take part; None for whoever trains.
    """

    parts: NodeParts
    terms: JobTerms
    limits: PeersSpec
    metainfo: bytes
    shapes: list[tuple[int, ...]]
    placement: Placement | Owned
    spool: Path
    delivered: dict[bytes, tuple[int, int]]
    note: Callable[[str], None]
    changed: Callable[[MemberRecord], None]
    records: dict[str, MemberRecord] = field(default_factory=dict)
    only: frozenset[str] | None = None
    _sessions: dict[str, PeerSession] = field(default_factory=dict)
    _dialled: set[str] = field(default_factory=set)
    _joined: list[str] = field(default_factory=list)
    _placed: bool = False
    _nursery: trio.Nursery | None = None
    _scope: trio.CancelScope = field(default_factory=lambda: trio.CancelScope(shield=True))
    _wake: trio.Event = field(default_factory=trio.Event)
    _send: trio.MemorySendChannel[Report] = field(init=False)
    reports: trio.MemoryReceiveChannel[Report] = field(init=False)

    def __post_init__(self) -> None:
        # Unbounded, and yet bounded: a session has one open task, and of progress only so much is kept.
        self._send, self.reports = trio.open_memory_channel[Report](math.inf)

    async def run(self) -> None:
        """Invite peers whenever there is room, until `end`."""
        with self._scope:
            await self._run()

    def end(self) -> None:
        """Break all conversations off. Only this does: whoever is cancelled around them can still say why."""
        self._scope.cancel()

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                while True:
                    self._invite(nursery)
                    await trio.sleep(LOOK_S)
            finally:
                self._nursery = None

    @property
    def ready(self) -> list[PeerSession]:
        """The participants that have their shards, in the order in which they joined."""
        return [self._sessions[peer] for peer in self._joined if self._sessions[peer].ready]

    def session(self, peer: str) -> PeerSession | None:
        """A participant's session while it lasts."""
        return self._sessions.get(peer) if peer in self._joined else None

    async def gather(self) -> None:
        """Wait until enough participants have their shards; give out shards at the first time.

        Raises:
            UserError: (code 12) not enough came in time, with their reasons.
        """
        until = trio.current_time() + self.limits.join
        first = not self._placed
        if first:
            await self._wait_for(lambda: len(self._joined), until)
            with trio.move_on_after(GRACE_S):
                while len(self._joined) < self.limits.max and self._expected():
                    await self._change()
            self._placed = True
        self._place()
        await self._wait_for(lambda: len(self.ready), until, " to get their shards")
        if first:  # who joined in time shall not lose its clients to the quicker ones
            with trio.move_on_after(GRACE_S):
                while len(self.ready) < len(self._joined):
                    await self._change()

    def drop(self, peer: str, reason: str, *, banned: bool) -> None:
        """End a session and say why; who is banned, or fails again and again, is not invited again."""
        record = self.records[peer]
        record.failures += 1
        record.banned = record.banned or banned or record.failures >= MAX_FAILURES
        session = self._sessions.get(peer)
        if session is not None and self._nursery is not None:
            self._leave(session, f"dropped: {reason}")
            self._nursery.start_soon(self._dismiss, session, f"dropped: {reason}", record.banned)

    def start(self, operation: Callable[..., Any], session: PeerSession, *args: Any) -> None:
        """Run one of the session's sending operations in the background; if it fails, the session ends."""

        async def guarded() -> None:
            try:
                await operation(*args)
            except RemoteError as error:
                self._leave(session, str(error))
                session.scope.cancel()

        if self._nursery is not None:
            self._nursery.start_soon(guarded)

    async def dismiss_all(self, reason: str) -> None:
        """Tell everybody that the job is over."""
        async with trio.open_nursery() as nursery:
            for session in list(self._sessions.values()):
                nursery.start_soon(self._dismiss, session, reason)

    def _expected(self) -> bool:
        """Whether somebody else may still join."""
        return any(peer not in self._joined for peer in self._sessions) or any(
            self._may_invite(trainer) for trainer in self.parts.trainers()
        )

    async def _wait_for(self, count: Callable[[], int], until: float, what: str = "") -> None:
        told = -1
        while count() < self.limits.min:
            if count() != told:
                told = count()
                self.note(waiting_text(told, self.limits.min, what))
            with trio.move_on_at(until):
                await self._change()
                continue
            raise UserError(
                self._too_few(count()), "start more trainers or lower peers.min", ExitCode.NO_TRAINERS
            )

    def _too_few(self, here: int) -> str:
        reasons = [
            f"{record.name or peer[-8:]}: {record.reason}"
            for peer, record in self.records.items()
            if record.reason
        ]
        told = f" ({'; '.join(reasons[:5])})" if reasons else ""
        return f"only {here} of {self.limits.min} peers joined within {self.limits.join:g} s{told}"

    def _may_invite(self, trainer: Trainer) -> bool:
        if (
            trainer.peer in self._sessions
            or trainer.peer in self._dialled
            or trainer.rating < self.limits.min_rating
            or (self.only is not None and trainer.peer not in self.only)
        ):
            return False
        record = self.records.get(trainer.peer)
        return record is None or (not record.banned and trio.current_time() >= record.retry_at)

    def _invite(self, nursery: trio.Nursery) -> None:
        for trainer in eligible(list(self.parts.trainers()), self.limits):
            if len(self._sessions) >= self.limits.max:
                return
            if self._may_invite(trainer):
                nursery.start_soon(self._attend, trainer)

    async def _attend(self, trainer: Trainer) -> None:
        """One session with a peer, from its invitation to its end."""
        peer = trainer.peer
        record = self.records.setdefault(peer, MemberRecord(peer, trainer.name))
        record.retry_at = trio.current_time() + RETRY_S
        record.name = trainer.name or record.name
        self._dialled.add(peer)
        try:
            channel = Channel(await self.parts.host.open(peer, PROTOCOL))
        except RemoteError as error:
            self._note_end(record, str(error))
            return
        finally:
            self._dialled.discard(peer)
        if peer in self._sessions or len(self._sessions) >= self.limits.max:
            await channel.reset()
            return
        session = PeerSession(
            channel, self.terms, self.parts.keys, self.parts.host.peer_id, self.parts.host.standing,
            self.shapes, self.spool, self.delivered, self._report, self._shown,
        )  # fmt: skip
        self._sessions[peer] = session
        try:
            with session.scope:
                self._leave(session, await self._until_end(session, record))
        finally:
            with trio.CancelScope(shield=True):
                await channel.reset()
            session.settle()

    async def _until_end(self, session: PeerSession, record: MemberRecord) -> str:
        """The whole conversation; returns why it ended."""
        try:
            return await self._converse(session)
        except Refused as error:
            record.retry_at = trio.current_time() + REFUSED_RETRY_S
            return f"refused: {error}"
        except RemoteError as error:
            self.parts.host.standing.note(session.peer, error)
            return str(error)

    async def _converse(self, session: PeerSession) -> str:
        await session.join()
        self.records[session.peer].account = session.account
        if self.metainfo and not self.terms.division:
            self.parts.data.allow(self.metainfo, [session.peer])
        self._joined.append(session.peer)
        self._changed()
        if self._placed:
            self._place()
        return await session.listen()

    def _place(self) -> None:
        """Divide the shards among those who are here, and have each fetch what it does not hold yet."""
        self.placement.update(self._joined)
        for peer in self._joined:
            session, clients = self._sessions[peer], self.placement.held_by(peer)
            others = tuple(sorted(other for other in self._joined if other != peer and self.metainfo))
            if session.told != (clients, others):
                session.told = clients, others
                self.records[peer].clients = clients
                self.start(session.hold, session, self.metainfo, clients, others)

    def _leave(self, session: PeerSession, reason: str) -> None:
        """Take a session out of the job; its stream ends separately."""
        peer = session.peer
        if self._sessions.get(peer) is not session:
            return
        del self._sessions[peer]
        if peer in self._joined:
            self._joined.remove(peer)
            self._send.send_nowait(Report(session, machine.PeerGone(peer, reason)))
        self.records[peer].retry_at = max(self.records[peer].retry_at, trio.current_time() + RETRY_S)
        self._note_end(self.records[peer], reason)

    async def _dismiss(self, session: PeerSession, reason: str, over: bool = True) -> None:
        try:
            with trio.move_on_after(5):
                await session.dismiss(reason, over)
                await session.channel.close()
        except RemoteError:
            pass  # it is gone already
        session.scope.cancel()

    def _report(self, report: Report) -> None:
        """What a session says, for the round; a peer may repeat its progress as fast as it likes."""
        repeated = isinstance(report.event, machine.Progress)
        if not repeated or self.reports.statistics().current_buffer_used < MAX_PROGRESS:
            self._send.send_nowait(report)

    def _shown(self, session: PeerSession) -> None:
        record = self.records[session.peer]
        record.state, record.reason, record.detail = session.state, "", ""
        self.changed(record)
        self._changed()

    def _note_end(self, record: MemberRecord, reason: str) -> None:
        record.state = "left" if not record.banned else "dropped"
        record.reason, record.detail = reason.partition("\n")[0][:200], reason
        log.info("%s left the job %s: %s", record.name or record.peer, self.terms.name, reason)
        self.changed(record)
        self._changed()

    def _changed(self) -> None:
        wake, self._wake = self._wake, trio.Event()
        wake.set()

    async def _change(self) -> None:
        with trio.move_on_after(LOOK_S):
            await self._wake.wait()
