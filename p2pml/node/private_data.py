"""The private data of this node, as jobs of others see it: nobody learns more than how many samples it has.

It is read when a requester that its owner named first asks, and written as a shard into this node's home for
the worker. It is part of no torrent: nothing in this module or its callers opens it to the network.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import trio

from chain import address
from chain.codec import pack
from chain.crypto import H, Keypair, verify
from p2pml.errors import ExitCode, UserError
from p2pml.formats import FormatError, SpecError, keras_json, shards
from p2pml.formats.keras_json import ModelSpec
from p2pml.formats.shards import Shard
from p2pml.net import train as wire
from p2pml.net.train import Hold
from p2pml.node.held_shards import TaskFailed
from p2pml.node.terms import JobTerms
from p2pml.private_config import PrivateDataset
from p2pml.training import dataset
from p2pml.training.dataset import Reading
from p2pml.worker.session import WorkerError

log = logging.getLogger(__name__)


class NotOffered(Exception):
    """This node does not train on its private data for that; the message goes to the requester."""


def make_ask(
    keys: Keypair, chain_id: bytes, name: str, model: str, requester_peer: str, owner_peer: str
) -> wire.Ask:
    """The signed question for a private data set."""
    sig = keys.sign(ask_bytes(chain_id, name, requester_peer, owner_peer))
    return wire.Ask(wire.VERSION, chain_id, keys.public, name, model, sig)


def ask_bytes(chain_id: bytes, name: str, requester_peer: str, owner_peer: str) -> bytes:
    """What the asking account signs: that this peer speaks for it, to that one, about this data set."""
    return H("ask", pack((chain_id, name, requester_peer, owner_peer)))


class PrivateData:
    """What `config.toml` opens to the jobs of certain accounts.

    Args:
        datasets: of the configuration.
        folder: where shards for the worker are written.

    Raises:
        UserError: (code 7) an account's address that is none.
    """

    def __init__(self, datasets: Sequence[PrivateDataset], folder: Path) -> None:
        self._datasets = {item.name: item for item in datasets}
        self._allowed = {item.name: frozenset(map(_account, item.requesters)) for item in datasets}
        self._folder = folder
        self._written: set[str] = set()
        self._reading = trio.Lock()

    async def answer(
        self, ask: wire.Ask, asking_peer: str, own_peer: str, chain_id: bytes, limits: keras_json.Limits
    ) -> wire.Offer | wire.Refuse:
        """Whether the data may be trained on, and how large it is."""
        try:
            if ask.version != wire.VERSION:
                raise NotOffered(f"version {ask.version} of the training protocol is not spoken here")
            if ask.chain_id != chain_id:
                raise NotOffered("the job is on another chain")
            signed = ask_bytes(ask.chain_id, ask.dataset, asking_peer, own_peer)
            if not verify(ask.requester, signed, ask.sig):
                raise NotOffered("the question is not signed by its account, for you and for this node")
            _, samples = await self.shard(ask.dataset, ask.requester, ask.model, limits)
        except NotOffered as error:
            return wire.Refuse("ask", 0, 0, str(error)[:500])
        return wire.Offer(samples)

    async def shard(
        self, name: str, requester: bytes, model: str, limits: keras_json.Limits
    ) -> tuple[Path, int]:
        """The file for the worker, and its samples.

        Args:
            name: of the data set.
            requester: account whose job it is for; the caller has seen its signature.
            model: Keras JSON, which the data has to fit.
            limits: how large a model may be.

        Raises:
            NotOffered: not to this account, not for this model, or it cannot be read.
        """
        # The same words whether the data is not there or not for them: a stranger cannot ask what is here.
        if requester not in self._allowed.get(name, frozenset()):
            raise NotOffered(f"this node offers no private data {name!r} to the account that asks")
        path = self._folder / f"{name}.safetensors"
        async with self._reading:
            if name not in self._written:
                await trio.to_thread.run_sync(_write, self._datasets[name], path)
                self._written.add(name)
            return path, await trio.to_thread.run_sync(_fitting, path, model, limits)


class OwnShard:
    """This node's own data in place of fetched shards (`p2pml.node.held_shards.HeldShards`).

    Args:
        path: the file that the worker reads.
    """

    metainfo = b""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._client: int | None = None

    async def hold(self, hold: Hold) -> None:
        """Learn which client this is. Raises TaskFailed: the requester means others' data, or sharing."""
        await trio.lowlevel.checkpoint()
        if hold.metainfo or hold.peers or len(hold.clients) != 1:
            raise TaskFailed("a job on private data has no torrent, and one client for each owner")
        self._client = hold.clients[0]

    async def get(self, client: int, round_: int) -> Path:
        """The file. Raises TaskFailed: it is not this client's."""
        await trio.lowlevel.checkpoint()
        if client != self._client:
            raise TaskFailed(f"client {client} is not this node's: it trains on its own private data alone")
        return self._path


def failed_work(error: WorkerError, terms: JobTerms) -> TaskFailed:
    """What the requester hears of a training that failed: all of it, but on private data only that it did.
    What TensorFlow or a trainer of the owner's says may hold values of the data, and paths."""
    reason = f"the worker failed: {error.reason}" + (f"\n{error.traceback}" if error.traceback else "")
    if not terms.dataset:
        return TaskFailed(reason)
    log.error("job %s on the private data %s: %s", terms.name, terms.dataset, reason)
    return TaskFailed("the worker failed on private data; the log of its owner's node says why")


def _account(text: str) -> bytes:
    try:
        return address.decode(text)
    except ValueError as error:
        raise UserError(
            f"config.toml: requesters of [[private]]: {error}",
            "copy the account from `p2pml status` of the requester's node",
            ExitCode.BAD_CONFIG,
        ) from error


def _write(item: PrivateDataset, path: Path) -> None:
    """Read a data set and write it for the worker. Raises NotOffered; what is wrong only its owner reads."""
    try:
        found = dataset.load(item.place, Reading().apart(), shards.MAX_BYTES).train
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shards.write(path, found)
        log.info("the private data %s in %s is read as %s", item.name, item.place, found)
    except (FormatError, OSError) as error:
        log.error("the private data %s in %s cannot be used: %s", item.name, item.place, error)
        raise NotOffered(f"the private data {item.name} cannot be read by its owner's node") from error


def _fitting(path: Path, model: str, limits: keras_json.Limits) -> int:
    """How many samples there are for a model. Raises NotOffered: it is refused, or of another kind."""
    try:
        shard = shards.read(path)
        _check_fit(shard, keras_json.parse(model, limits))
    except (SpecError, FormatError) as error:
        raise NotOffered(f"the model is not accepted here: {error}") from error
    except OSError as error:
        log.error("the private data in %s cannot be read: %s", path, error)
        raise NotOffered("the private data cannot be read by its owner's node") from error
    return len(shard)


def _check_fit(shard: Shard, model: ModelSpec) -> None:
    """Raises FormatError: the data is not of the model's kind."""
    if shard.sample_shape != tuple(model.input_shape):
        raise FormatError(
            f"it takes samples of {list(model.input_shape)}, the data has {list(shard.sample_shape)}"
        )
    if int(shard.y.max()) >= model.classes:
        raise FormatError(f"it knows {model.classes} classes, the data has {int(shard.y.max()) + 1}")
    if model.tokens is not None:
        shard.check_tokens(model.tokens)
