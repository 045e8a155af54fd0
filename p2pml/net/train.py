"""The messages of `/p2pml/train/1.0.0`: a requester and one participant, on one stream while a job lasts.

    requester                            participant
    ASK               →                ← OFFER or REFUSE   (private data, before the job; a stream of its own)

    INVITE            →                ← ACCEPT or REFUSE
    HOLD              →                ← READY            (shards are on disk)
    MODEL, CHUNK …    →
    TASK              →                ← WORKING …, COMMIT
    PULL(offset)      →                ← UPDATE …
    COUNTERSIGNED or REFUSE →
    DONE              →

Each is a msgpack array `[kind, fields…]` behind its length (`p2pml.net.streams`). Every field has a type and
a bound; whatever else comes is `Malformed`. How long a message may be depends on who reads: before an
invitation is judged, and from a participant, only what such a message needs. An update is pulled from an
offset, and ACCEPT says what is here of a model, so a transfer that broke off goes on where it stopped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import trio

from p2pml.formats.keras_json import MAX_TEXT
from p2pml.net import checked_fields as checked
from p2pml.net.errors import Malformed
from p2pml.net.streams import Stream

PROTOCOL = "/p2pml/train/1.0.0"
VERSION = 4
CHUNK_BYTES = 256 * 1024
MAX_METAINFO = 4 << 20
MAX_DIVISION = 4096
MAX_INVITE = MAX_TEXT + 4 * MAX_DIVISION + 4096
"""Bytes of the first message: a model's description and what stands around it."""
FROM_REQUESTER = MAX_METAINFO + 128 * 1024
"""Bytes of any later message of a requester: a torrent, and the ids of peers."""
FROM_PARTICIPANT = CHUNK_BYTES + 4096
"""Bytes of any message of a participant: a piece of an update, and what stands around it."""
MAX_CONTENT = 512 << 20
"""Bytes of the largest model or update that is sent, 512 MiB."""
NO_MODEL = bytes(32)
"""In place of a digest, where there is no model."""
MAX_CLIENTS = 4096
MAX_PEERS = 512
MAX_EPOCHS = 1000
MAX_BATCH = 65_536


@dataclass(frozen=True, slots=True)
class Ask:
    """Requester: may my account train on your private data set of this name, and how large is it?

    Args:
        version: `VERSION`.
        chain_id, requester: 32 bytes each: where, and the account that asks.
        dataset: the name that its owners have given it.
        model: Keras JSON, which the data has to fit.
        sig: the requester's account's, over chain, name and both peers (`p2pml.node.private_data.ask_bytes`).
    """

    version: int = checked.whole(2**16)
    chain_id: bytes = checked.octets(32)
    requester: bytes = checked.octets(32)
    dataset: str = checked.text(64)
    model: str = checked.text(MAX_TEXT)
    sig: bytes = checked.octets(64)


@dataclass(frozen=True, slots=True)
class Offer:
    """Participant: yes, and it has so many samples."""

    samples: int = checked.whole(2**48, 1)


@dataclass(frozen=True, slots=True)
class Invite:
    """Requester: take part in a job? Everything that stays the same for all of it.

    Args:
        version: `VERSION`.
        chain_id, job, requester: 32 bytes each: where, for which JOB_OPEN, and the account that pays.
        name: of the job, for people.
        model: Keras JSON (`p2pml.formats.keras_json`).
        optimizer, lr, arguments: `p2pml.formats.optimizers.Optimizer`.
        batch, epochs, seed: of the training.
        rounds: at most so many.
        price: base units per sample and epoch.
        settle_every: after so many rounds what was earned in them is paid on the chain.
        algorithm: of a round: `fedavg`, or `sync_sgd` for one batch.
        prox: weight of FedProx's proximal term; 0 for none.
        upload: kind of the updates' values (`p2pml.formats.uploads.KINDS`).
        dataset: name of the participant's own private data to train on; empty for other data.
        division: how public data is divided that HOLD names (`p2pml.training.by_seed.Division`); or empty.
        trainer: name of the installed trainer that is to do it (`p2pml.worker.plugins`); empty for p2pml's.
        sig: the requester's account's, over chain, job and both peers: who speaks for it, and to whom
            (`p2pml.node.terms.JobTerms.invite`).
    """

    version: int = checked.whole(2**16)
    chain_id: bytes = checked.octets(32)
    job: bytes = checked.octets(32)
    requester: bytes = checked.octets(32)
    name: str = checked.text(64)
    model: str = checked.text(MAX_TEXT)
    optimizer: str = checked.text(32)
    lr: float = checked.real()
    arguments: dict[str, float] = checked.arguments()  # noqa: RUF009  (it makes a field, not a value)
    batch: int = checked.whole(MAX_BATCH, 1)
    epochs: int = checked.whole(MAX_EPOCHS, 1)
    seed: int = checked.whole(2**32)
    rounds: int = checked.whole(2**32)
    price: int = checked.whole()
    settle_every: int = checked.whole(2**32, 1)
    algorithm: str = checked.text(16)
    prox: float = checked.real()
    upload: str = checked.text(16)
    dataset: str = checked.text(64)
    division: str = checked.text(MAX_DIVISION)
    trainer: str = checked.text(64)
    sig: bytes = checked.octets(64)


@dataclass(frozen=True, slots=True)
class Accept:
    """Participant: yes; `account` (32 bytes) will sign the commitments and be paid.

    Of the model with the SHA-256 `digest` (`NO_MODEL` for none) it has the first `held` bytes from an earlier
    conversation.
    """

    account: bytes = checked.octets(32)
    digest: bytes = checked.octets(32)
    held: int = checked.whole(MAX_CONTENT)


@dataclass(frozen=True, slots=True)
class Hold:
    """Requester: fetch these clients' shards; file i of the torrent is client i's.

    Args:
        metainfo: of the job's private torrent; of the public data set where there is a `division`.
        clients: in this order.
        peers: ids of the other participants, who may have what is wanted and may be given it.
    """

    metainfo: bytes = checked.data(MAX_METAINFO)
    clients: tuple[int, ...] = checked.wholes(MAX_CLIENTS, MAX_CLIENTS)
    peers: tuple[str, ...] = checked.names(MAX_PEERS)


@dataclass(frozen=True, slots=True)
class Ready:
    """Participant: these clients' shards are on disk."""

    clients: tuple[int, ...] = checked.wholes(MAX_CLIENTS, MAX_CLIENTS)


@dataclass(frozen=True, slots=True)
class Model:
    """Requester: a round's global model of `size` bytes follows in chunks, from `offset` on; `digest` is its
    SHA-256."""

    round: int = checked.whole(2**32)
    digest: bytes = checked.octets(32)
    size: int = checked.whole(MAX_CONTENT, 1)
    offset: int = checked.whole(MAX_CONTENT)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Requester: the next bytes of the model."""

    offset: int = checked.whole(MAX_CONTENT)
    data: bytes = checked.data(CHUNK_BYTES)


@dataclass(frozen=True, slots=True)
class Task:
    """Requester: train this client; `sig` is made and checked by `p2pml.node.terms.JobTerms`."""

    round: int = checked.whole(2**32)
    client: int = checked.whole(MAX_CLIENTS)
    trainer: bytes = checked.octets(32)
    samples: int = checked.whole(2**48, 1)
    model_in: bytes = checked.octets(32)
    sig: bytes = checked.octets(64)


@dataclass(frozen=True, slots=True)
class Working:
    """Participant: how far it is, `done` of `total` in bytes or steps; `stage` is `fetch`, `train`,
    `pay` while it waits for what it earned before, or why its worker rests (`p2pml.worker.rests`)."""

    round: int = checked.whole(2**32)
    client: int = checked.whole(MAX_CLIENTS)
    stage: str = checked.text(16)
    done: int = checked.whole()
    total: int = checked.whole()


@dataclass(frozen=True, slots=True)
class Commit:
    """Participant: the signed commitment (`chain.training_records.Commitment`, packed) to an update of `size`
    bytes, and the loss on its shard before and after training."""

    commitment: bytes = checked.data(512)
    sig: bytes = checked.octets(64)
    size: int = checked.whole(MAX_CONTENT, 1)
    loss_before: float = checked.real()
    loss_after: float = checked.real()


@dataclass(frozen=True, slots=True)
class Pull:
    """Requester: send the committed update from this offset on."""

    round: int = checked.whole(2**32)
    client: int = checked.whole(MAX_CLIENTS)
    offset: int = checked.whole(MAX_CONTENT)


@dataclass(frozen=True, slots=True)
class Update:
    """Participant: the next bytes of an update."""

    round: int = checked.whole(2**32)
    client: int = checked.whole(MAX_CLIENTS)
    offset: int = checked.whole(MAX_CONTENT)
    data: bytes = checked.data(CHUNK_BYTES)


@dataclass(frozen=True, slots=True)
class Countersigned:
    """Requester: the receipt for a delivered update (`chain.training_records.Receipt`, packed)."""

    receipt: bytes = checked.data(1024)


@dataclass(frozen=True, slots=True)
class Refuse:
    """Either: no, and why. `what` is `ask`, `invite`, `task` or `update`; `rest` where a participant gives a
    task back and leaves while its worker rests; `job` where either ends the conversation alone."""

    what: str = checked.text(16)
    round: int = checked.whole(2**32)
    client: int = checked.whole(MAX_CLIENTS)
    reason: str = checked.text(500)


@dataclass(frozen=True, slots=True)
class Done:
    """Either: the job is over for this pair."""

    reason: str = checked.text(500)


Message = (
    Ask | Offer | Invite | Accept | Hold | Ready | Model | Chunk | Task | Working
    | Commit | Pull | Update | Countersigned | Refuse | Done
)  # fmt: skip
_KINDS: dict[str, type[Message]] = {
    kind.__name__.upper(): kind
    for kind in (
        Ask, Offer, Invite, Accept, Hold, Ready, Model, Chunk, Task, Working,
        Commit, Pull, Update, Countersigned, Refuse, Done,
    )
}  # fmt: skip


def encode(message: Message) -> list[Any]:
    """The plain form of a message.

    Raises:
        ValueError: a field out of its bounds, which is our own mistake.
    """
    values = [getattr(message, item.name) for item in fields(message)]
    for item, value in zip(fields(message), values, strict=True):
        if not checked.accepts(item, value):
            raise ValueError(f"{type(message).__name__}.{item.name} cannot be sent: {value!r}"[:200])
    return [type(message).__name__.upper(), *values]


def decode(plain: Any) -> Message:
    """The message that `encode` made.

    Raises:
        Malformed: anything else.
    """
    if not isinstance(plain, list) or not plain or not isinstance(plain[0], str):
        raise Malformed("not a message of the training protocol")
    kind = _KINDS.get(plain[0])
    if kind is None:
        raise Malformed(f"unknown message {plain[0][:32]!r}")
    parts = fields(kind)
    if len(plain) != len(parts) + 1:
        raise Malformed(f"{plain[0]} has {len(plain) - 1} fields, not {len(parts)}")
    for item, value in zip(parts, plain[1:], strict=True):
        if not checked.accepts(item, value):
            raise Malformed(f"{plain[0]}: {item.name} is out of bounds")
    values: list[Any] = [tuple(value) if isinstance(value, list) else value for value in plain[1:]]
    return kind(*values)


class Channel:
    """A stream that carries these messages; several tasks may send.

    Args:
        stream: owned by the channel from now on.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._turn = trio.Lock()
        self.peer = stream.peer

    async def send(self, message: Message, deadline: float = 60.0) -> None:
        """Send one message, at the pace of the reader.

        Raises:
            RemoteError: the peer is gone or takes no data.
        """
        plain = encode(message)
        async with self._turn:
            await self._stream.send(plain, deadline)

    async def receive(self, most: int, deadline: float = math.inf) -> Message:
        """The next message.

        Args:
            most: bytes, of what may come now: `MAX_INVITE`, `FROM_REQUESTER` or `FROM_PARTICIPANT`.
            deadline: seconds; without one only the end of the connection ends the wait.

        Raises:
            RemoteError: the peer is gone, silent, or sent something else.
        """
        return decode(await self._stream.recv(most, deadline))

    async def close(self) -> None:
        """End in good order: what was sent arrives."""
        await self._stream.close()

    async def reset(self) -> None:
        """Break off."""
        await self._stream.reset()
