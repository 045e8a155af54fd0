"""The requester's conversation with one participant of a job.

It sends orders, checks everything that comes back, spools updates to disk, and reports in the round machine's
words. It decides nothing: who trains what is the machine's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from chain.codec import unpack
from chain.crypto import Keypair, verify
from chain.errors import DecodeError
from chain.training_records import Commitment, Receipt
from p2pml.net.errors import Malformed, RemoteError
from p2pml.net.scores import Deed
from p2pml.net.standing import Standing
from p2pml.net.train import (
    CHUNK_BYTES,
    FROM_PARTICIPANT,
    NO_MODEL,
    Accept,
    Channel,
    Chunk,
    Commit,
    Countersigned,
    Done,
    Hold,
    Model,
    Pull,
    Ready,
    Refuse,
    Update,
    Working,
)
from p2pml.node.terms import JobTerms
from p2pml.node.update_check import BadUpdate
from p2pml.node.update_spool import Upload, part_file
from p2pml.training import round as machine
from p2pml.worker.rests import WORDS

JOIN_S = 30.0
_CHECKS = trio.CapacityLimiter(2)
"""So many updates are checked at a time: what that takes must not grow with the participants."""


@dataclass(frozen=True, slots=True)
class GlobalModel:
    """A round's starting point.

    Args:
        weights: safetensors bytes.
        digest: their SHA-256.
        max_norm: the largest L2 norm that an update of it may have.
    """

    weights: bytes
    digest: bytes
    max_norm: float = math.inf


@dataclass(frozen=True, slots=True)
class Delivered:
    """An update that arrived whole, hashes to its commitment and fits the model; `path` holds it, `norm` is
    its L2 norm."""

    commitment: Commitment
    trainer_sig: bytes
    path: Path
    peer: str
    loss_before: float
    loss_after: float
    norm: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a session has to say to the round that runs; `round` is None when it is about the peer itself."""

    session: PeerSession
    event: machine.Event
    round: int | None = None
    delivered: Delivered | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Assigned:
    """One task of one peer; another one for the same round and client is not the same."""

    round: int
    client: int
    samples: int
    model: GlobalModel

    def is_for(self, round_: int, client: int) -> bool:
        return (self.round, self.client) == (round_, client)


@dataclass(slots=True)
class PeerSession:
    """One participant, from its invitation to its end.

    Args:
        channel: to the participant.
        terms: of the job.
        keys: the requester's, to sign invitation and tasks with.
        own_peer: the id of this node's peer.
        standing: told what the peer's updates say about it.
        shapes: of the model's weights.
        spool: folder for updates.
        delivered: hashes of the updates that the job has, and for which round and client; added to.
        report: called with each thing worth telling; must not block.
        changed: called when what people see of the peer changed.

    Attributes:
        told: which clients' shards it was asked to hold, and with whom to share them; None before.
        scope: cancelled to end the session.
    """

    channel: Channel
    terms: JobTerms
    keys: Keypair
    own_peer: str
    standing: Standing
    shapes: list[tuple[int, ...]]
    spool: Path
    delivered: dict[bytes, tuple[int, int]]
    report: Callable[[Report], None]
    changed: Callable[[PeerSession], None]
    account: bytes = b""
    state: str = "invited"
    ready: bool = False
    told: tuple[tuple[int, ...], tuple[str, ...]] | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    _task: Assigned | None = None
    _upload: Upload | None = None
    _faults: list[tuple[Deed, str]] = field(default_factory=list)
    _model_sent: bytes = b""
    _held: tuple[bytes, int] = (NO_MODEL, 0)
    _orders: trio.Lock = field(default_factory=trio.Lock)

    @property
    def peer(self) -> str:
        return self.channel.peer

    async def join(self) -> None:
        """Invite the peer and wait for its answer.

        Raises:
            Refused: it does not want to, or cannot; the reason is its own.
            RemoteError: it does not answer, or not in this protocol.
        """
        await self.channel.send(self.terms.invite(self.keys, self.own_peer, self.peer))
        answer = await self.channel.receive(FROM_PARTICIPANT, JOIN_S)
        match answer:
            case Accept(account, digest, held):
                self.account, self._held = account, (digest, held)
                self._show("joined")
            case Refuse(reason=reason) | Done(reason=reason):
                raise Refused(reason)
            case _:
                raise Malformed(f"{type(answer).__name__} in answer to an invitation")

    async def listen(self) -> str:
        """Take the peer's messages until it leaves; returns the reason that it gave.

        Raises:
            RemoteError: the stream ended, or the peer broke the protocol.
        """
        while True:
            match await self.channel.receive(FROM_PARTICIPANT):
                case Ready():
                    if not self.ready:  # said once, or a peer could fill our memory with it
                        self.ready = True
                        self._show("ready")
                        self._tell(machine.PeerReady(self.peer))
                case Working() as working:
                    self._on_working(working)
                case Commit() as commit:
                    await self._on_commit(commit)
                case Update() as update:
                    await self._on_update(update)
                case Refuse(what="task", round=round_, client=client, reason=reason):
                    self._on_failure(round_, client, reason)
                case Done(reason=reason) | Refuse(reason=reason):
                    return reason
                case other:
                    raise Malformed(f"{type(other).__name__} is not for a requester")

    async def hold(self, metainfo: bytes, clients: tuple[int, ...], peers: tuple[str, ...]) -> None:
        """Have the peer fetch these clients' shards from us and the other participants."""
        if not self.ready:
            self._show("fetching")
        await self.channel.send(Hold(metainfo, clients, peers))

    def expect(self, round_: int, client: int, samples: int, model: GlobalModel) -> Assigned:
        """From now on a commitment for this client is what the peer may send; what is to be assigned."""
        self._task = Assigned(round_, client, samples, model)
        self._upload = None
        self._show(f"training client {client}")
        return self._task

    async def assign(self, task: Assigned) -> None:
        """Send what the peer lacks of the round's model, and the signed task. Nothing more is sent once the
        task was taken back: its refusal would overtake it, and the peer work for nothing, or twice.

        Raises:
            RemoteError: the peer is gone.
        """
        async with self._orders:
            await self._send_model(task)
            if self._task is task:
                order = self.terms.task(
                    self.keys, task.round, task.client, self.account, task.samples, task.model.digest
                )
                await self.channel.send(order)

    async def _send_model(self, task: Assigned) -> None:
        """Send what the peer lacks of the model, as long as the task is its; the next order goes on there."""
        model = task.model
        if self._task is not task or self._model_sent == model.digest:
            return
        size, (digest, held) = len(model.weights), self._held
        begin = held if digest == model.digest and held <= size else 0
        self._model_sent, self._held = b"", (model.digest, begin)
        await self.channel.send(Model(task.round, model.digest, size, begin))
        for offset in range(begin, size, CHUNK_BYTES):
            if self._task is not task:
                return
            data = model.weights[offset : offset + CHUNK_BYTES]
            await self.channel.send(Chunk(offset, data))
            self._held = model.digest, offset + len(data)
            self._tell(machine.Progress(self.peer))
        self._model_sent = model.digest

    async def pull(self) -> None:
        """Ask for the update that the peer committed to, from where an earlier upload broke off."""
        upload = self._upload
        if upload is None:
            return
        offset = upload.begin()
        self._show(f"upload client {upload.commitment.client}")
        await self.channel.send(Pull(upload.commitment.round, upload.commitment.client, offset))

    async def countersign(self, receipt: Receipt) -> None:
        """Hand over the receipt for a delivered update."""
        self._show("waiting")
        await self.channel.send(Countersigned(receipt.encode()))

    async def refuse(self, round_: int, client: int, reason: str) -> None:
        """Tell the peer that its work on a client is not wanted."""
        if self._task is not None and self._task.is_for(round_, client):
            self._task, self._upload = None, None
        self._show("waiting")
        await self.channel.send(Refuse("update", round_, client, reason[:500]))

    async def dismiss(self, reason: str, over: bool = True) -> None:
        """Say that the job is over for the peer, or only this conversation: then it keeps what it has."""
        reason = reason[:500]
        await self.channel.send(Done(reason) if over else Refuse("job", 0, 0, reason), 5.0)

    def settle(self) -> None:
        """Report what the peer did wrong; after the end, since a ban cuts it off before it has heard why."""
        faults, self._faults = self._faults, []
        for deed, reason in faults:
            self.standing.report(self.peer, deed, reason)

    def _on_working(self, working: Working) -> None:
        if working.stage == "fetch" and not self.ready:
            self._show(f"fetching {_percent(working)}")
        if self._task is None or not self._task.is_for(working.round, working.client):
            return  # how it gets on with something else does not show that the task gets on
        if working.stage == "train":
            self._show(f"training client {working.client} {_percent(working)}")
        elif working.stage == "pay":
            self._show("waiting for its pay")
        elif working.stage in WORDS:
            self._show(WORDS[working.stage])
        self._tell(machine.Progress(self.peer, working.stage))

    def _on_failure(self, round_: int, client: int, reason: str) -> None:
        if self._task is None or not self._task.is_for(round_, client):
            return  # an answer to a task that was taken back meanwhile
        self._task, self._upload = None, None
        self._tell(machine.WorkFailed(self.peer, client, reason), round_)

    async def _on_commit(self, commit: Commit) -> None:
        try:
            commitment = Commitment.from_item(unpack(commit.commitment, 512))
        except DecodeError as error:
            raise Malformed(f"not a commitment: {error}") from error
        task = self._task
        if task is None or not task.is_for(commitment.round, commitment.client):
            reason = (
                f"round {commitment.round} does not expect client {commitment.client} from you (any more)"
            )
            await self.refuse(commitment.round, commitment.client, reason)
            return
        expected = self.terms.commitment(
            task.round, task.client, self.account, task.samples, task.model.digest, commitment.update_hash
        )
        if commitment != expected:
            self._bad("the commitment is not for the task that was given")
        elif not verify(self.account, commitment.signing_bytes(), commit.sig):
            self._bad("the commitment's signature does not hold", Deed.LIED)
        elif self._upload is not None:
            self._bad("a second commitment for the same task")
        elif commit.size > self.terms.max_content():
            self._bad(f"an update of {commit.size} bytes is more than this model can have")
        elif replayed := self._delivered_before(commitment):
            self._bad(replayed)
        else:
            part = part_file(self.spool, commitment, self.peer)
            self._upload = Upload(commit, commitment, part, task.model.max_norm)
            self._tell(machine.CommitReceived(self.peer, task.client), task.round)

    async def _on_update(self, update: Update) -> None:
        upload = self._upload
        if upload is None:
            return  # the rest of an upload that was refused meanwhile
        commitment = upload.commitment
        if (update.round, update.client) != (commitment.round, commitment.client):
            return
        if not upload.follows(update):
            self._bad("the update's chunks do not follow each other")
            return
        await trio.to_thread.run_sync(upload.append, update.data)
        self._tell(machine.Progress(self.peer))
        if upload.received == upload.commit.size and upload is self._upload:
            await self._finish(upload)

    async def _finish(self, upload: Upload) -> None:
        try:
            path, norm = await trio.to_thread.run_sync(
                upload.finish, self.terms.upload, self.shapes, limiter=_CHECKS
            )
        except BadUpdate as error:
            upload.path.unlink(missing_ok=True)
            if not (upload.resumed and error.deed is Deed.LIED):
                self._bad(f"bad update: {error}", error.deed)
            elif upload is self._upload:
                await self.pull()  # a crash may have spoilt what was here from before: that is nobody's lie
            return
        except FileNotFoundError:
            if upload is self._upload:
                raise
            return  # the round ended, and with it what was uploaded
        commit, commitment = upload.commit, upload.commitment
        self.standing.useful(self.peer, commit.size)
        if self._upload is not upload:
            return  # the round ended while it was checked; the peer has been told
        if replayed := self._delivered_before(commitment):
            path.unlink()
            self._bad(replayed)
            return
        if norm:  # training that has nothing left to learn says so again and again
            self.delivered[commitment.update_hash] = commitment.round, commitment.client
        self._task, self._upload = None, None
        delivered = Delivered(
            commitment, commit.sig, path, self.peer, commit.loss_before, commit.loss_after, norm
        )
        event = machine.UpdateReceived(self.peer, commitment.client)
        self.report(Report(self, event, commitment.round, delivered))

    def _delivered_before(self, commitment: Commitment) -> str:
        """Why an update cannot be for this task: it was delivered for another one. Empty if it was not."""
        task = commitment.round, commitment.client
        known = self.delivered.get(commitment.update_hash, task)
        if known == task:
            return ""
        return f"the update is one of before: client {known[1]} of round {known[0] + 1} delivered it"

    def _bad(self, reason: str, deed: Deed | None = Deed.INVALID) -> None:
        """Have the peer dropped; `deed` is what this proves of it, None where an honest one may err."""
        if deed is not None:
            self._faults.append((deed, reason))
        task = self._task
        self._task, self._upload = None, None
        if task is not None:
            self._tell(machine.UpdateBad(self.peer, task.client, reason), task.round)

    def _tell(self, event: machine.Event, round_: int | None = None) -> None:
        self.report(Report(self, event, round_))

    def _show(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.changed(self)


class Refused(RemoteError):
    """The peer was asked and said no."""


def _percent(working: Working) -> str:
    return f"{min(100, 100 * working.done // max(1, working.total))} %"
