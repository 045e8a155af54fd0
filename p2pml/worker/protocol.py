"""What a node and its worker process say to each other: one msgpack array `[kind, call id, fields…]` per
WebSocket message.

The worker says `Hello` once it has imported TensorFlow; one on another machine says it again when the process
there is a new one, or `Unable` when there will be none. Then the node sends requests, one at a time; the
worker answers each with any number of `Progress` and one result or `Failed`. `Cancel` ends the running call
early (it is answered by `Failed` with `cancelled`). A worker on another machine asks for samples that it
does not have (`Want`, answered by `Part`), and tells when it rests (`Resting`). Whoever cannot read a message
closes the connection. No TensorFlow here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, get_type_hints

import msgpack  # type: ignore[import-untyped]

from p2pml.formats.optimizers import Optimizer

PROTOCOL_VERSION = 4
MAX_MESSAGE = 1 << 30
"""The longest message, 1 GiB: a server step with 100 MB of weights and Adam's state takes 500 MB."""

REPLACED = 4001
"""Code with which a lent worker closes a connection when another node has come."""

R = TypeVar("R", bound="Message")


class ProtocolError(Exception):
    """A message that is not one of these."""


class Message:
    """Anything that is sent either way."""

    __slots__ = ()


class Request(Message, Generic[R]):
    """Node to worker, answered by an `R`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """Worker to node, once ready.

    Args:
        protocol: `PROTOCOL_VERSION`.
        pid: the worker's process id.
        versions: of python, numpy, tensorflow, tensorflow_federated.
        threads: threads of one operation.
        isolated: whether it has no network.
        seconds: from process start to ready.
        memory: resident bytes when ready.
    """

    protocol: int
    pid: int
    versions: dict[str, str]
    threads: int
    isolated: bool
    seconds: float
    memory: int


@dataclass(frozen=True, slots=True)
class Unable(Message):
    """Worker to node: this machine cannot run a worker at all (TensorFlow is not installed); do not start
    another."""

    reason: str


@dataclass(frozen=True, slots=True)
class Built(Message):
    """The first weights (`p2pml.formats.tensors`) and the canonical model JSON."""

    weights: bytes
    model: str
    params: int


@dataclass(frozen=True, slots=True)
class Build(Request[Built]):
    """Build a model and its first weights.

    Args:
        model: Keras JSON.
        seed: of the weights.
    """

    model: str
    seed: int


@dataclass(frozen=True, slots=True)
class Trained(Message):
    """The result of local training.

    Args:
        update: trained − given weights, float32, `p2pml.formats.tensors`.
        samples: in the shard.
        steps: optimizer steps taken, over all epochs.
        loss_before: mean loss of the given weights over the shard's first `loss_samples` samples.
        loss_after: that of the trained weights.
        loss_samples: at most 1024.
    """

    update: bytes
    samples: int
    steps: int
    loss_before: float
    loss_after: float
    loss_samples: int


@dataclass(frozen=True, slots=True)
class Train(Request[Trained]):
    """Train from given weights on one shard; a function of its arguments alone.

    Args:
        model: Keras JSON.
        weights: `p2pml.formats.tensors`.
        shard: path of a `p2pml.formats.shards` file; for a worker on another machine its SHA-256, in
            hexadecimal digits.
        optimizer: of `optimizers.CLIENT`, started afresh.
        batch: samples a step; the last one of an epoch may be smaller.
        epochs: passes over the shard.
        seed, round, client: epoch e visits the samples in the order `Generator(PCG64([seed, round, client,
            e])).permutation(n)`.
        prox: μ of FedProx's proximal term (Li et al. 2020); 0 for none.
        one_batch: visit only the first `batch` samples of an epoch's order.
        trainer: name of an installed trainer (`p2pml.worker.plugins`) that does it; empty for p2pml's own.
    """

    model: str
    weights: bytes
    shard: str
    optimizer: Optimizer
    batch: int
    epochs: int
    seed: int
    round: int
    client: int
    prox: float = 0.0
    one_batch: bool = False
    trainer: str = ""


@dataclass(frozen=True, slots=True)
class Evaluated(Message):
    """Mean loss (cross-entropy, nats) and accuracy (0 to 1) over `samples` samples."""

    loss: float
    accuracy: float
    samples: int


@dataclass(frozen=True, slots=True)
class Evaluate(Request[Evaluated]):
    """Evaluate weights on the samples of a shard file (`data`, as `Train.shard`), `batch` at a time."""

    model: str
    weights: bytes
    data: str
    batch: int = 512


@dataclass(frozen=True, slots=True)
class Spanned(Message):
    """The weights after a span of steps, and the optimizer's state for the span after."""

    weights: bytes
    state: bytes


@dataclass(frozen=True, slots=True)
class Span(Request[Spanned]):
    """Some consecutive steps of training on all samples in one place; a function of its arguments alone.

    Args:
        model: Keras JSON.
        weights: `p2pml.formats.tensors`.
        state: the optimizer's, of the span before; empty at the first.
        shard: as `Train.shard`.
        optimizer: of `optimizers.CLIENT`, the same in every span.
        batch: samples a step; the last one of an epoch may be smaller.
        seed: epoch e visits the samples in the order `p2pml.worker.orders.central` says.
        begin, end: steps, counted from the first epoch's first; `end` is not taken any more.
    """

    model: str
    weights: bytes
    state: bytes
    shard: str
    optimizer: Optimizer
    batch: int
    seed: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Stepped(Message):
    """The next global weights and the optimizer's state for the step after."""

    weights: bytes
    state: bytes


@dataclass(frozen=True, slots=True)
class ServerStep(Request[Stepped]):
    """One step of the server optimizer with pseudo-gradient −`mean_delta`.

    Args:
        optimizer: of `optimizers.SERVER`, the same in every step.
        weights: the round's global weights.
        mean_delta: the weighted mean of the updates.
        state: of the step before; empty at the first.
    """

    optimizer: Optimizer
    weights: bytes
    mean_delta: bytes
    state: bytes = b""


@dataclass(frozen=True, slots=True)
class Progress(Message):
    """How far the running call is: steps done of all, and the mean loss of the steps since the last
    report. None is done while samples travel to a worker on another machine."""

    done: int
    total: int
    loss: float

    @property
    def stage(self) -> str:
        """As in `p2pml.net.train.Working`."""
        return "train" if self.done else "fetch"


@dataclass(frozen=True, slots=True)
class Failed(Message):
    """The call failed.

    Args:
        reason: one line.
        traceback: for the owner of the job or the node.
        cancelled: whether `Cancel` was the cause.
        refused: whether the request itself is to blame (model, weights or shard), not the machine.
        died: whether the process that computed it is gone; another one is being started.
    """

    reason: str
    traceback: str = ""
    cancelled: bool = False
    refused: bool = False
    died: bool = False


@dataclass(frozen=True, slots=True)
class Cancel(Message):
    """Node to worker: end the running call."""

    reason: str = field(default="cancelled")


@dataclass(frozen=True, slots=True)
class Rest(Message):
    """Node to worker: stop computing between two steps, or go on; of no call."""

    resting: bool


@dataclass(frozen=True, slots=True)
class Resting(Message):
    """Worker to node: why it rests of its own accord (`p2pml.worker.rests`); empty when it goes on."""

    reason: str


@dataclass(frozen=True, slots=True)
class Want(Message):
    """Worker to node: send a part of the file that the running call names by this hash, from `offset` on."""

    digest: str
    offset: int


@dataclass(frozen=True, slots=True)
class Part(Message):
    """Node to worker: what was wanted, of `size` bytes in all; 0 where the node cannot read it."""

    digest: str
    offset: int
    size: int
    data: bytes


_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        Hello,
        Unable,
        Build,
        Built,
        Train,
        Trained,
        Evaluate,
        Evaluated,
        Span,
        Spanned,
        ServerStep,
        Stepped,
        Progress,
        Failed,
        Cancel,
        Rest,
        Resting,
        Want,
        Part,
    )
}
_HINTS = {name: get_type_hints(kind) for name, kind in _KINDS.items()}


def encode(call: int, message: Message) -> bytes:
    """Pack a message that belongs to a call (0: to none)."""
    values: list[Any] = []
    for item in dataclasses.fields(message):  # type: ignore[arg-type]
        value = getattr(message, item.name)
        values.append([value.name, value.lr, dict(value.args)] if isinstance(value, Optimizer) else value)
    packed: bytes = msgpack.packb([type(message).__name__, call, *values])
    return packed


def decode(data: bytes) -> tuple[int, Message]:
    """Unpack a message and check its fields' types.

    Raises:
        ProtocolError: anything that `encode` would not make.
    """
    try:
        parts = msgpack.unpackb(data, max_bin_len=MAX_MESSAGE, strict_map_key=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise ProtocolError(f"not msgpack: {error}") from error
    if (
        not isinstance(parts, list)
        or len(parts) < 2
        or not isinstance(parts[0], str)
        or type(parts[1]) is not int
    ):
        raise ProtocolError("not a message")
    kind, call, values = _KINDS.get(parts[0]), parts[1], parts[2:]
    if kind is None:
        raise ProtocolError(f"unknown kind of message {parts[0][:40]!r}")
    if kind is Hello and values and values[0] != PROTOCOL_VERSION:  # its other fields may be different ones
        raise ProtocolError(f"protocol version {values[0]!r:.20} instead of {PROTOCOL_VERSION}")
    hints = _HINTS[parts[0]]
    if len(values) != len(hints):
        raise ProtocolError(f"{parts[0]} with {len(values)} fields instead of {len(hints)}")
    fields = {
        name: _field(name, hint, value) for (name, hint), value in zip(hints.items(), values, strict=True)
    }
    return call, kind(**fields)


def _field(name: str, hint: Any, value: Any) -> Any:
    if hint is Optimizer:
        if not (isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)):
            raise ProtocolError(f"{name} is not an optimizer")
        return Optimizer(value[0], _field("lr", float, value[1]), _numbers(name, value[2]))
    if hint is float and type(value) in (int, float):
        return float(value)
    if hint == dict[str, str]:
        if isinstance(value, dict) and all(isinstance(part, str) for pair in value.items() for part in pair):
            return value
    elif type(value) is hint:
        return value
    raise ProtocolError(f"{name} is {type(value).__name__}, not {hint}")


def _numbers(name: str, value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ProtocolError(f"{name} has no map of arguments")
    return {str(key): _field(str(key), float, item) for key, item in value.items()}
