"""The requester's side of one training round, as a machine without a clock or a network.

It decides which peer trains which logical client, who is dropped, and when the round is over. What it
does not decide is what a valid update is: the adapter reports an update only after it has checked it.

A client goes to its first holder that is there; another holder, or when none is left any peer, takes
over only when that one is gone. A client that is bound to its holders waits for them. A peer works on one
client at a time. The result of a round does not depend on who trained a client, since data, order and seeds
belong to the client.

The deadline stands still while a peer that has a task waits for what it cannot hasten (`PAUSING`): a rating
window takes everybody's time at once, and no other attempt would bring more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from p2pml.training.sampling import fewest_updates

PAUSING = frozenset({"pay", "rating"})
"""What a peer reports while the deadline stands still. From the other rests a task is given back."""
MAX_PAUSE_S = 780.0
"""So long may the deadline of a round stand still: the longest rating window of any preset, nearly twelve
minutes on `main`, and one to get back to work. What peers report is their word, and one that lies shall not
hold a round for ever."""


@dataclass(frozen=True, slots=True)
class Work:
    """One logical client's part of a round; `holders` are the peers that have its shard, its trainer
    first. With `bound` nobody else can get it: the data is theirs."""

    client: int
    holders: tuple[str, ...]
    bound: bool = False


@dataclass(frozen=True, slots=True)
class RoundConfig:
    """Args:
    works: every client of the round.
    quorum: share of the clients that must have delivered when the round is cut short, in (0, 1].
    stall: seconds without progress after which a peer with a task is dropped.
    deadline: seconds from the round's start after which it is cut short; infinite for none.
    done: clients that were delivered before, when the round goes on after an interruption, and by whom.
    enough: how many clients end the round, the first that deliver; 0 for all of them.
    pause: seconds for which the deadline may stand still.
    """

    works: tuple[Work, ...]
    quorum: float = 1.0
    stall: float = 30.0
    deadline: float = inf
    done: tuple[tuple[int, str], ...] = ()
    enough: int = 0
    pause: float = MAX_PAUSE_S


@dataclass(frozen=True, slots=True)
class PeerReady:
    """The peer can be given work."""

    peer: str


@dataclass(frozen=True, slots=True)
class PeerGone:
    """The peer's stream ended, or its node said that it leaves."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """The peer showed that it gets on with its task: a batch done, a chunk arrived. Or it said why it cannot,
    in `stage`."""

    peer: str
    stage: str = ""


@dataclass(frozen=True, slots=True)
class CommitReceived:
    """The peer's valid signed commitment for a client's update."""

    peer: str
    client: int


@dataclass(frozen=True, slots=True)
class UpdateReceived:
    """The committed update arrived and is valid."""

    peer: str
    client: int


@dataclass(frozen=True, slots=True)
class UpdateBad:
    """What the peer sent for a client is not what it may send; the peer is out of the job."""

    peer: str
    client: int
    reason: str


@dataclass(frozen=True, slots=True)
class WorkFailed:
    """The peer says that it cannot do its task."""

    peer: str
    client: int
    reason: str


Event = PeerReady | PeerGone | Progress | CommitReceived | UpdateReceived | UpdateBad | WorkFailed


@dataclass(frozen=True, slots=True)
class Assign:
    """Give the peer this client to train."""

    peer: str
    client: int


@dataclass(frozen=True, slots=True)
class Pull:
    """Ask the peer for the update that it committed to."""

    peer: str
    client: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the peer that its work on a client is not wanted any more, and why; it stays in the job."""

    peer: str
    client: int
    reason: str


@dataclass(frozen=True, slots=True)
class Drop:
    """End the session with the peer. It may come back in a later round unless it is `banned`."""

    peer: str
    reason: str
    banned: bool = False


@dataclass(frozen=True, slots=True)
class RoundComplete:
    """The round is over; `chosen` are the clients whose updates count and who trained them, in client order.
    `spares` have committed to theirs in time and go on uploading: they do not count and are paid."""

    chosen: tuple[tuple[int, str], ...]
    spares: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RoundFailed:
    """Too few updates; the round has no result."""

    reason: str


Effect = Assign | Pull | Refuse | Drop | RoundComplete | RoundFailed


@dataclass(slots=True)
class _Peer:
    client: int | None = None
    last_progress: float = 0.0
    committed: bool = False
    waits: bool = False


class Round:
    """One round, from its first assignment to its end.

    Args:
        config: clients, holders and limits.
        now: seconds on the caller's clock.
        peers: who is there from the start; call `tick` at once for their tasks.

    Attributes:
        over: whether it has ended.
        paused: seconds for which its deadline stood still.

    Raises:
        ValueError: there is no client.
    """

    def __init__(self, config: RoundConfig, now: float, peers: Sequence[str] = ()) -> None:
        if not config.works:
            raise ValueError("a round needs at least one client")
        self._config = config
        self._works = {work.client: work for work in sorted(config.works, key=lambda work: work.client)}
        self._ends = now + config.deadline
        self._peers = {peer: _Peer(last_progress=now) for peer in peers}
        self._done = {client: peer for client, peer in config.done if client in self._works}
        self._enough = min(config.enough, len(self._works)) or len(self._works)
        self._stuck_since: float | None = None if peers else now
        self._seen = now
        self.paused = 0.0
        self.over = False

    @property
    def needed(self) -> int:
        """How many updates the round needs when it is cut short."""
        return fewest_updates(self._enough, self._config.quorum)

    @property
    def done(self) -> dict[int, str]:
        """The delivered clients and who trained each."""
        return dict(self._done)

    @property
    def tasks(self) -> dict[str, int | None]:
        """The peers in the round and the client each is at work on."""
        return {name: peer.client for name, peer in self._peers.items()}

    def receive(self, event: Event, now: float) -> list[Effect]:
        """Take an event; what it asks for comes back, in order."""
        if self.over:
            return self._after_the_end(event)
        self._pass_time(now)
        match event:
            case PeerReady(peer):
                if peer in self._peers:
                    return []
                self._peers[peer] = _Peer(last_progress=now)
                return self._assign(now)
            case PeerGone(peer, _):
                return self._without(peer, now)
            case Progress(peer, stage):
                if peer in self._peers:
                    self._peers[peer].last_progress = now
                    self._peers[peer].waits = stage in PAUSING
                return []
            case UpdateBad(peer, _, reason):
                return [Drop(peer, reason, banned=True), *self._without(peer, now)]
            case WorkFailed(peer, _, reason):
                return [Drop(peer, reason), *self._without(peer, now)]
            case CommitReceived(peer, client):
                if refusal := self._not_wanted(peer, client):
                    return [refusal]
                self._peers[peer] = _Peer(client, now, committed=True)
                return [Pull(peer, client)]
            case UpdateReceived(peer, client):
                return self._delivered(peer, client, now)

    def tick(self, now: float) -> list[Effect]:
        """What the passing of time asks for, and at the first call what there is to begin with."""
        if self.over:
            return []
        self._pass_time(now)
        if len(self._done) >= self._enough:
            return self._complete("enough updates are here")
        effects: list[Effect] = []
        for name, peer in list(self._peers.items()):
            if peer.client is not None and now - peer.last_progress >= self._config.stall:
                reason = f"no progress on client {peer.client} for {self._config.stall:g} s"
                effects += [Drop(name, reason), *self._without(name, now)]
        if now >= self._ends:
            return effects + self._cut_short(f"at the deadline of {self._config.deadline:g} s")
        if self._stuck_since is not None and now - self._stuck_since >= self._config.stall:
            who = "nobody who has the data" if self._peers else "no peer"
            return effects + self._cut_short(f"and {who} is left since {self._config.stall:g} s")
        return effects + self._assign(now)

    def deadline(self) -> float | None:
        """When `tick` has something to do next; None when only an event can change anything."""
        if self.over:
            return None
        stall = self._config.stall
        times = [peer.last_progress + stall for peer in self._peers.values() if peer.client is not None]
        if self._stuck_since is not None:
            times.append(self._stuck_since + stall)
        if self._ends < inf:
            times.append(self._ends + self._pause_left())
        return min(times, default=None)

    def _pass_time(self, now: float) -> None:
        """Move the deadline on by the time since the last call, if somebody waited."""
        passed = min(now - self._seen, self._pause_left())
        self._seen = now
        self.paused += passed
        self._ends += passed

    def _pause_left(self) -> float:
        """For how long the deadline stands still from now on, unless something happens."""
        waits = any(peer.waits and peer.client is not None for peer in self._peers.values())
        return self._config.pause - self.paused if waits else 0.0

    def _delivered(self, peer: str, client: int, now: float) -> list[Effect]:
        if refusal := self._not_wanted(peer, client):
            return [refusal]
        self._done[client] = peer
        self._peers[peer] = _Peer(last_progress=now)
        if len(self._done) >= self._enough:
            return self._complete("enough updates are here")
        return self._assign(now)

    def _not_wanted(self, peer: str, client: int) -> Refuse | None:
        if peer in self._peers and self._peers[peer].client == client:
            return None
        if client in self._done:
            return Refuse(peer, client, f"client {client} is already done by another peer")
        return Refuse(peer, client, f"client {client} is not yours in this round")

    def _after_the_end(self, event: Event) -> list[Effect]:
        match event:
            case CommitReceived(peer, client) | UpdateReceived(peer, client):
                return [Refuse(peer, client, "too late: the round is over")]
            case UpdateBad(peer, _, reason):
                return [Drop(peer, reason, banned=True)]
        return []

    def _without(self, peer: str, now: float) -> list[Effect]:
        if self._peers.pop(peer, None) is None:
            return []
        return self._assign(now)

    def _assign(self, now: float) -> list[Effect]:
        """Give every idle peer the first open client that is its own; note since when nobody is at work."""
        effects: list[Effect] = []
        for client in self._open():
            peer = self._who(self._works[client])
            if peer is not None:
                self._peers[peer] = _Peer(client, now)
                effects.append(Assign(peer, client))
        if any(peer.client is not None for peer in self._peers.values()):
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = now
        return effects

    def _open(self) -> list[int]:
        taken = {peer.client for peer in self._peers.values()}
        return [client for client in self._works if client not in self._done and client not in taken]

    def _who(self, work: Work) -> str | None:
        """The idle peer that a client goes to now; None when it has to wait for one that is busy or away."""
        present = [holder for holder in work.holders if holder in self._peers]
        candidates = present[:1] or ([] if work.bound else list(self._peers))
        return next((name for name in candidates if self._peers[name].client is None), None)

    def _cut_short(self, when: str) -> list[Effect]:
        count = f"{len(self._done)} of {self._enough} updates {when}"
        if len(self._done) >= self.needed:
            return self._complete(count)
        self.over = True
        return [*self._refuse(self._at_work(), count), RoundFailed(f"{count}, {self.needed} needed")]

    def _complete(self, why: str) -> list[Effect]:
        """End the round with the first that came; who still trains is told, and stays in the job."""
        self.over = True
        chosen = tuple(sorted(list(self._done.items())[: self._enough]))
        spares = tuple(sorted((client, name) for name, client in self._at_work(committed=True)))
        return [*self._refuse(self._at_work(committed=False), why), RoundComplete(chosen, spares)]

    def _at_work(self, committed: bool | None = None) -> list[tuple[str, int]]:
        """Who has which client to deliver; with `committed` only those that have committed, or have not."""
        return [
            (name, peer.client)
            for name, peer in self._peers.items()
            if peer.client is not None and committed in (None, peer.committed)
        ]

    @staticmethod
    def _refuse(tasks: Sequence[tuple[str, int]], why: str) -> list[Effect]:
        return [Refuse(name, client, f"the round was over: {why}") for name, client in tasks]
