"""A scenario file: which nodes there are, what their links are like, and what happens in which order.

A scenario is a list of steps, carried out one after the other. Each step is a mapping with one key, its verb:

    - wait: {height: 2}                 until every live node's head is that high, or so many seconds pass
    - seed: {node: n1, data: digits}    comes with the nodes; or `noise:8MiB`, or a path beside the scenario
    - join: {node: n7}                  a node that was not there at the start
    - train: {node: n1, job: job.yaml, as: first}     starts a job; `as` names it for later steps
    - wait_round: {job: first, round: 2}
    - kill: {node: n3}                       SIGKILL
    - restart: {node: n3}
    - pause: {node: n4, for: 5}              frozen for so many seconds
    - link: {node: n4, rate: 5 Mbit, delay_ms: 40, loss: 0.02}
    - partition: {groups: [[n1, n2, n3], [n4, n5, n6]], for: 30}
    - wait_job: {job: first, accuracy: 0.85}
    - wait_window: {number: 1}               until the network's first rating window has been closed
    - get: {nodes: [n5, n6], data: digits}
    - check: [books, finality, heads, private, ratings, shards, sources]

What a place to run cannot do (a loopback process has no link to shape) it says in the report; it never
pretends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from p2pml.errors import ExitCode, UserError
from p2pml.scenario.links import Link

NodeName = Annotated[str, Field(pattern=r"^n[1-9][0-9]?$")]
Data = Annotated[str, Field(min_length=1, max_length=1024)]
Check = Literal["books", "finality", "heads", "private", "ratings", "shards", "sources"]
OPEN_BLOCKS = 6
"""`check: finality`: blocks that may lack it while all is well, those of the last few slots."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Wait(_Strict):
    """Until every live node's head has this height."""

    height: Annotated[int, Field(ge=1)]
    within: Annotated[float, Field(gt=0)] = 120.0


class Seed(_Strict):
    """Offer a dataset: the bundled `digits`, `noise:<n>MiB` of random bytes, or a path relative to the
    scenario file."""

    node: NodeName
    data: Data


class Join(_Strict):
    """Start a node that is not one of the founders."""

    node: NodeName


class Train(_Strict):
    """Start a job whose spec lies beside the scenario."""

    node: NodeName
    job: str
    name: str = Field("job", alias="as")


class WaitRound(_Strict):
    """Until a job has finished this many rounds."""

    job: str = "job"
    round: Annotated[int, Field(ge=1)]
    within: Annotated[float, Field(gt=0)] = 300.0


class WaitJob(_Strict):
    """Until a job is done and settled; its final accuracy must reach `accuracy`."""

    job: str = "job"
    accuracy: Annotated[float, Field(ge=0, le=1)] = 0.0
    within: Annotated[float, Field(gt=0)] = 600.0


class WaitWindow(_Strict):
    """Until the network's so-many-th regular rating window has been closed on every live node."""

    number: Annotated[int, Field(ge=1)] = 1
    within: Annotated[float, Field(gt=0)] = 600.0


class Kill(_Strict):
    """End a node with SIGKILL."""

    node: NodeName


class Restart(_Strict):
    """Start a killed node again on its own disk, shaped as before."""

    node: NodeName


class Pause(_Strict):
    """Freeze a node for so many seconds."""

    node: NodeName
    seconds: Annotated[float, Field(gt=0, le=600, alias="for")]


class Relink(_Strict):
    """Change a node's link; keys that are not given take the link's defaults."""

    node: NodeName
    rate: str | int | None = None
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0

    def link(self) -> Link:
        """The link that is asked for."""
        return Link.from_mapping(self.model_dump(exclude={"node"}))


class Partition(_Strict):
    """Cut the network into groups for so many seconds, then heal it."""

    groups: Annotated[list[list[NodeName]], Field(min_length=2)]
    seconds: Annotated[float, Field(gt=0, le=3600, alias="for")]


class Get(_Strict):
    """Fetch a dataset on several nodes at once and wait until all have it."""

    nodes: Annotated[list[NodeName], Field(min_length=1)]
    data: Data
    within: Annotated[float, Field(gt=0)] = 300.0


class Checks(_Strict):
    """What must be true at this point; a failed check fails the run."""

    checks: Annotated[list[Check], Field(min_length=1)]


Step = (
    Wait
    | Seed
    | Join
    | Train
    | WaitRound
    | WaitJob
    | WaitWindow
    | Kill
    | Restart
    | Pause
    | Relink
    | Partition
    | Get
    | Checks
)

VERBS: dict[str, type[_Strict]] = {
    "wait": Wait, "seed": Seed, "join": Join, "train": Train, "wait_round": WaitRound, "wait_job": WaitJob,
    "wait_window": WaitWindow, "kill": Kill, "restart": Restart, "pause": Pause, "link": Relink,
    "partition": Partition, "get": Get, "check": Checks,
}  # fmt: skip


class Rating(_Strict):
    """What each node gives to a rating window: processes, and per cent of a core for each."""

    lanes: Annotated[int, Field(ge=1, le=1024)] = 1
    cap: Annotated[int, Field(ge=1, le=100)] = 100


class Private(_Strict):
    """Data that never leaves its owners: the bundled digits, divided among them; jobs of `requester` with
    `partition: {kind: by_owner}` may train on it, and evaluate on its `validation.npz`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    requester: NodeName
    owners: Annotated[list[NodeName], Field(min_length=1)]


class Scenario(_Strict):
    """A whole scenario file.

    Args:
        nodes: founders, named n1, n2, …; later names may `join`.
        preset: the chain's parameters.
        params: those that are not the preset's.
        rating: what nodes give to rating windows; when it is not given they take no part, as many nodes on
            one machine would take its cores from everything else.
        trainers: who offers to train; all when it is not given. The others have no training process, but for
            those that ask for a job.
        private: who owns data that stays with its owners, and who may ask for training on it.
        link: every node's link at the start; nothing is shaped when it is not given.
        steps: what happens, in order.
    """

    version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    nodes: Annotated[int, Field(ge=1, le=64)]
    preset: Literal["main", "lab", "demo", "report"] = "demo"
    params: dict[str, int] = Field(default_factory=dict)
    rating: Rating | None = None
    trainers: list[NodeName] | None = None
    private: Private | None = None
    link: dict[str, Any] = Field(default_factory=dict)
    steps: Annotated[list[Step], Field(min_length=1)]

    @field_validator("steps", mode="before")
    @classmethod
    def _read_steps(cls, value: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError("steps must be a list")
        return [_read_step(number, item) for number, item in enumerate(value, start=1)]

    @model_validator(mode="after")
    def _known_nodes(self) -> Scenario:
        Link.from_mapping(self.link)
        known = set(self.founders)
        if strangers := sorted(set(self.trainers or []) - set(self.names)):
            raise ValueError(f"trainers names {strangers[0]}, which never takes part")
        if self.private is not None:
            if strangers := sorted(set(self.private.owners) - set(self.names)):
                raise ValueError(f"private names {strangers[0]}, which never takes part")
            if self.private.requester not in self.founders:
                raise ValueError(f"private: the requester {self.private.requester} is no founder")
        for number, step in enumerate(self.steps, start=1):
            if isinstance(step, Checks) and "private" in step.checks and self.private is None:
                raise ValueError(f"step {number} checks private data, and the file says nothing of any")
            if isinstance(step, Join):
                if step.node in known:
                    raise ValueError(f"step {number}: {step.node} is there already")
                known.add(step.node)
            for name in _names(step):
                if name not in known:
                    raise ValueError(f"step {number} speaks of {name}, which has not been started by then")
        return self

    @property
    def founders(self) -> list[str]:
        """Names of the nodes that are there from the start."""
        return [f"n{i}" for i in range(1, self.nodes + 1)]

    @property
    def default_link(self) -> Link:
        """Every node's link at the start."""
        return Link.from_mapping(self.link)

    @property
    def names(self) -> list[str]:
        """Every node that ever takes part, founders first."""
        return self.founders + [s.node for s in self.steps if isinstance(s, Join)]

    def is_trainer(self, name: str) -> bool:
        """Whether a node offers to train."""
        return self.trainers is None or name in self.trainers

    def needs_worker(self, name: str) -> bool:
        """Whether a node trains, or builds and evaluates models of its own job."""
        return self.is_trainer(name) or any(isinstance(s, Train) and s.node == name for s in self.steps)


def load(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        UserError: (code 7) it cannot be read, is not YAML, or says something that is not in the language.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}", "check the path", ExitCode.BAD_CONFIG) from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}", "correct that line", ExitCode.BAD_CONFIG) from error
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(
            f"{path}: {where}: {first['msg']}",
            "correct it; `p2pml lab run --help` shows the verbs",
            ExitCode.BAD_CONFIG,
        ) from error


def verb_of(step: Step) -> str:
    """The word that a scenario file uses for this step."""
    return next(verb for verb, kind in VERBS.items() if type(step) is kind)


def _read_step(number: int, item: Any) -> Any:
    if isinstance(item, _Strict):
        return item
    if not isinstance(item, dict) or len(item) != 1:
        raise ValueError(f"step {number} must be a mapping with one key, its verb")
    [(verb, body)] = item.items()
    kind = VERBS.get(verb)
    if kind is None:
        raise ValueError(f"step {number}: unknown verb {verb!r}; known are {', '.join(VERBS)}")
    return kind.model_validate({"checks": body} if kind is Checks else body)


def _names(step: Step) -> list[str]:
    if isinstance(step, Partition):
        return [name for group in step.groups for name in group]
    if isinstance(step, Get):
        return list(step.nodes)
    node = getattr(step, "node", None)
    return [] if node is None else [node]
