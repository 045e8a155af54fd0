"""The job spec: what a requester writes to have a model trained.

Only what works is accepted. An unknown key, a wrong value and a value that belongs to a later version
are each an error that names file, line and what to write instead.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from p2pml import private_config
from p2pml.errors import ExitCode, UserError
from p2pml.formats import SpecError, local, optimizers, uploads
from p2pml.formats.aggregation import RULES, Aggregation
from p2pml.formats.optimizers import Optimizer
from p2pml.training import models, yaml_lines
from p2pml.training.dataset import Reading
from p2pml.training.spec_values import (
    TOKEN,
    Part,
    Readable,
    Real,
    Seconds,
    Whole,
    checked,
    choice,
    not_bool,
    refusal,
    tokens,
)

__all__ = ["TOKEN", "JobSpec", "parse_spec"]


class ModelSpec(Part):
    """Either a named `builder` with its `args`, or `keras`: the path of a Keras JSON configuration.

    `weights`: the path of a safetensors file with the first weights, such as an earlier job's result.
    """

    builder: str | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    keras: str | None = None
    weights: Annotated[str, Field(min_length=1, max_length=4096)] | None = None

    @model_validator(mode="after")
    def _one(self) -> ModelSpec:
        if (self.builder is None) == (self.keras is None):
            raise PydanticCustomError(
                "model", "give either a builder or the path of a Keras JSON file (keras)"
            )
        if self.keras is not None and self.args:
            raise PydanticCustomError("model", "args belong to a builder, not to a Keras JSON file")
        if self.builder is not None:
            try:
                models.check_args(self.builder, self.args)
            except SpecError as error:
                raise refusal("model", str(error)) from error
        return self


class Validation(Part):
    """How much of the training set stays with the requester when the data has no test set of its own; with
    `by_owner`, the `path` of data of the requester's."""

    fraction: Annotated[Real, Field(gt=0, lt=1)] = 0.1
    path: Annotated[str, Field(min_length=1, max_length=4096)] | None = None


class PartitionSpec(Part):
    """How the training set is divided among logical clients; `samples`: how many public data has, which the
    requester need not hold."""

    kind: Annotated[
        Literal["iid", "shards", "dirichlet", "by_file", "by_owner", "by_seed"],
        choice(("iid", "shards", "dirichlet", "by_file", "by_owner", "by_seed")),
    ] = "iid"
    per_client: Annotated[Whole, Field(ge=1, le=1000)] | None = None
    alpha: Annotated[Real, Field(gt=0, le=1e6)] | None = None
    samples: Annotated[Whole, Field(ge=1, lt=2**40)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> PartitionSpec:
        if self.per_client is not None and self.kind != "shards":
            raise PydanticCustomError("partition", "per_client belongs to kind: shards")
        if self.alpha is not None and self.kind != "dirichlet":
            raise PydanticCustomError("partition", "alpha belongs to kind: dirichlet")
        if (self.samples is not None) != (self.kind == "by_seed"):
            raise PydanticCustomError("partition", "samples, how many the data has, belongs to kind: by_seed")
        return self


class DataSpec(Readable):
    """`train`: a path (it is seeded for you), a dataset's name on the network, or an infohash; a file, a tar
    or a folder; with `by_owner` the name of the owners' private data."""

    train: Annotated[str, Field(min_length=1, max_length=4096)]
    validation: Validation = Validation()
    partition: PartitionSpec = PartitionSpec()
    clients: Literal["auto"] | Annotated[Whole, Field(ge=1, le=1024)] = "auto"

    @model_validator(mode="after")
    def _fits(self) -> DataSpec:
        kind = self.partition.kind
        elsewhere = kind in ("by_owner", "by_seed")
        if elsewhere and self.validation.path is None:
            raise PydanticCustomError(
                "data",
                "{kind} needs validation: {path: …}, data of yours to evaluate the model on",
                {"kind": kind},
            )
        if self.validation.path is not None and not elsewhere:
            raise PydanticCustomError(
                "data", "validation.path belongs to the partitions by_owner and by_seed"
            )
        if kind == "by_owner" and self.clients != "auto":
            raise PydanticCustomError("data", "by_owner makes a client of each owner: leave clients out")
        if kind == "by_owner" and not private_config.NAME.fullmatch(self.train):
            raise PydanticCustomError("data", "by_owner: train is the name that the owners gave their data")
        return self

    def reading(self) -> Reading:
        """How the data on this node is read; with `by_owner` as its owners read theirs."""
        found = super().reading()
        return found.apart() if self.partition.kind == "by_owner" else found


class TrainSpec(Part):
    """What each client does in a round (McMahan et al. 2017: E epochs of batch size B at learning rate
    η); `momentum`: of sgdm, 0.9 where it is not named; `prox`: μ of FedProx. With `sync_sgd` a round is one
    step on one batch of each client. `trainer`: what does it instead, where the trainers' owners have it
    installed (`p2pml.worker.plugins`)."""

    algorithm: Annotated[Literal["fedavg", "sync_sgd"], choice(local.ALGORITHMS)] = "fedavg"
    optimizer: Annotated[str, choice(optimizers.CLIENT)] = "sgd"
    lr: Real = 0.1
    momentum: Real | None = None
    batch: Annotated[Whole, Field(ge=1, le=65_536)] = 32
    epochs: Annotated[Whole, Field(ge=1, le=1000)] = 1
    prox: Real = 0.0
    trainer: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = ""

    @model_validator(mode="after")
    def _fits(self) -> TrainSpec:
        optimizer = self.client_optimizer()
        checked(optimizer, optimizers.CLIENT)
        try:
            local.check(self.algorithm, optimizer, self.epochs, self.prox, self.trainer)
        except SpecError as error:
            raise refusal("train", str(error)) from error
        return self

    def samples_of_round(self, count: int) -> int:
        """What a client with a shard of `count` samples trains on in a round, each counted in every epoch."""
        return local.samples_of_round(self.algorithm, count, self.batch, self.epochs)

    def client_optimizer(self) -> Optimizer:
        """What the participants' workers are told."""
        return Optimizer(
            self.optimizer, self.lr, {} if self.momentum is None else {"momentum": self.momentum}
        )


class Target(Part):
    """Stop as soon as the metric on the evaluation data is at least `value`."""

    metric: Annotated[Literal["accuracy"], choice(("accuracy",), ("loss",))] = "accuracy"
    value: Annotated[Real, Field(gt=0, le=1)]


class RoundsSpec(Part):
    max: Annotated[Whole, Field(ge=1, le=10_000)] = 10
    target: Target | None = None


class PeersSpec(Part):
    """Who may train.

    `sample`: the share of the clients that take part in each round, drawn anew. `backup`: so many more train,
    and the first that deliver count, so that nobody waits for the slowest. `quorum`: the share of the round's
    updates that must be there at the `deadline`, which counts from the round's start; `auto` is 1.5 times the
    median round, at least a minute. `stall`: a peer without progress for so long is dropped. `join`: how long
    to wait for `min` peers.
    """

    min: Annotated[Whole, Field(ge=1, le=256)] = 1
    max: Annotated[Whole, Field(ge=1, le=256)] = 8
    sample: Annotated[Real, Field(gt=0, le=1)] = 1.0
    min_rating: Annotated[Whole, Field(ge=0)] = 0
    backup: Annotated[Whole, Field(ge=0, le=256)] = 0
    quorum: Annotated[Real, Field(gt=0, le=1)] = 1.0
    deadline: Literal["auto"] | Seconds = "auto"
    stall: Seconds = 30.0
    join: Seconds = 120.0

    @model_validator(mode="after")
    def _ordered(self) -> PeersSpec:
        if self.min > self.max:
            raise PydanticCustomError("peers", "min is greater than max")
        if self.backup and self.sample == 1.0:
            raise PydanticCustomError(
                "peers", "backup needs a sample below 1: when every client takes part, none is to spare"
            )
        return self


class ServerOptimizer(Part):
    """TFF's server optimizer on the mean delta; `sgd` with lr 1.0 is plain FedAvg (Reddi et al. 2020 for
    the others)."""

    name: Annotated[str, choice(optimizers.SERVER)] = "sgd"
    lr: Real = 1.0
    momentum: Real | None = None
    beta_1: Real | None = None
    beta_2: Real | None = None
    epsilon: Real | None = None
    weight_decay: Real | None = None

    @model_validator(mode="after")
    def _fits(self) -> ServerOptimizer:
        checked(self.optimizer(), optimizers.SERVER)
        return self

    def optimizer(self) -> Optimizer:
        """What the worker is told."""
        given = self.model_dump(exclude={"name", "lr"}, exclude_none=True)
        return Optimizer(self.name, self.lr, given)


class AggregateSpec(Part):
    """How a round's updates become one (`p2pml.formats.aggregation`), and what is done with that.

    `max_norm`: an update with a larger L2 norm is refused; `auto`: 100 times the norm of the model that the
    round starts from, at least 100.
    """

    rule: Annotated[str, choice(RULES)] = "mean"
    trim: Real | None = None
    zero: Real | None = None
    clip: Real | None = None
    noise: Real | None = None
    delta: Real | None = None
    max_norm: Literal["auto"] | Annotated[Real, Field(gt=0)] = "auto"
    server_optimizer: ServerOptimizer = ServerOptimizer()

    @model_validator(mode="after")
    def _fits(self) -> AggregateSpec:
        try:
            self.aggregation().check(frozenset(self._given()))
        except SpecError as error:
            raise refusal("aggregate", str(error)) from error
        return self

    def aggregation(self) -> Aggregation:
        """What the aggregator is told."""
        return Aggregation(self.rule, **self._given())

    def _given(self) -> dict[str, float]:
        return self.model_dump(include={"trim", "zero", "clip", "noise", "delta"}, exclude_none=True)


class TransportSpec(Part):
    broadcast: Annotated[Literal["stream"], choice(("stream",), ("swarm",))] = "stream"
    upload: Annotated[Literal["float32", "float16", "int8"], choice(uploads.KINDS)] = "float32"


class AuditSpec(Part):
    mode: Annotated[Literal["trusted"], choice(("trusted",), ("replay",))] = "trusted"


class RewardSpec(Part):
    """`budget`: tokens, at most 8 decimals; kept here as base units. What is not earned comes back.

    `settle_every`: after so many rounds what was earned in them is paid on the chain, which costs a fee;
    `auto`: after each, or as seldom as it takes that the fees stay within 5 % of the budget.
    """

    budget: Annotated[int, BeforeValidator(tokens), Field(ge=0, lt=2**63)]
    settle_every: Literal["auto"] | Annotated[Whole, Field(ge=1, le=10_000)] = "auto"


class CheckpointSpec(Part):
    """Keep the global model of every `every`-th round, the newest `keep` of them."""

    every: Annotated[Whole, Field(ge=1)] = 1
    keep: Annotated[Whole, Field(ge=1, le=1000)] = 3


class OutputSpec(Part):
    """Where the run's folder is made; relative to the spec's own folder."""

    dir: Annotated[str, Field(min_length=1, max_length=4096)] = "runs"


class JobSpec(Part):
    """One training job. See `examples/` for specs that run."""

    version: Annotated[Literal[1], BeforeValidator(not_bool)] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    seed: Annotated[Whole, Field(ge=0, lt=2**32)] = 1
    model: ModelSpec
    data: DataSpec
    train: TrainSpec = TrainSpec()
    rounds: RoundsSpec = RoundsSpec()
    peers: PeersSpec = PeersSpec()
    aggregate: AggregateSpec = AggregateSpec()
    transport: TransportSpec = TransportSpec()
    audit: AuditSpec = AuditSpec()
    reward: RewardSpec | None = None
    checkpoint: CheckpointSpec = CheckpointSpec()
    output: OutputSpec = OutputSpec()

    @property
    def budget(self) -> int:
        """What is escrowed for the trainers, in base units; 0 when nobody is paid."""
        return self.reward.budget if self.reward else 0


def parse_spec(text: str, source: str = "job.yaml") -> JobSpec:
    """Read a job spec.

    Args:
        text: YAML.
        source: how the file is called in errors.

    Raises:
        UserError: (code 7) cause with file and line, and what to write instead.
    """
    try:
        located = yaml_lines.load(text)
    except yaml_lines.YamlError as error:
        raise UserError(
            f"{source}:{error.line}: {error}", "correct that line", ExitCode.BAD_CONFIG
        ) from error
    if located.data.get("reward") == "none":
        located.data["reward"] = None
    try:
        return JobSpec.model_validate(located.data)
    except ValidationError as error:
        raise _explain(error, located, source) from error


def _explain(error: ValidationError, located: yaml_lines.Located, source: str) -> UserError:
    """The first problem, in words; an unknown key before others, since it is often their cause."""
    problems = sorted(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden")
    first = problems[0]
    where = _visible(first["loc"], located)
    shown = f"{source}:{located.line(where)}: "
    path = ".".join(str(part) for part in first["loc"] if part in where) or str(first["loc"][-1:])
    if first["type"] == "extra_forbidden":
        key, known = str(where[-1]), _known_keys(where[:-1])
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        fix = f"did you mean {near[0]!r}?" if near else "known keys here: " + ", ".join(known)
        return UserError(f"{shown}unknown key {path!r}", fix, ExitCode.BAD_CONFIG)
    if first["type"] == "missing":
        path = ".".join(str(part) for part in first["loc"])
        return UserError(f"{shown}the key {path!r} is missing", "add it", ExitCode.BAD_CONFIG)
    return UserError(f"{shown}{path}: {first['msg']}", "correct that line", ExitCode.BAD_CONFIG)


def _visible(loc: tuple[int | str, ...], located: yaml_lines.Located) -> tuple[int | str, ...]:
    """`loc` without the names of union branches that pydantic puts between real keys."""
    where: tuple[int | str, ...] = ()
    for part in loc:
        if (*where, part) in located.lines:
            where = (*where, part)
    return where


def _known_keys(where: tuple[int | str, ...]) -> list[str]:
    """The keys that the mapping at `where` may have."""
    part: type[BaseModel] = JobSpec
    for key in where:
        annotation = part.model_fields[str(key)].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        part = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(part.model_fields)
