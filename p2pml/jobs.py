"""Training jobs from Python: `p2pml.Client` speaks to a running daemon, for programs and notebooks.

Synchronous; imports nothing heavy. Every method raises `p2pml.UserError`: code 3 when no daemon answers, else
what the daemon says.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from p2pml.client import NodeClient
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home
from p2pml.job_output import FINAL_STATES, check_done, copy_files, result_files, write_event_files
from p2pml.report.job_page import render
from p2pml.storage.job_log import LogLine

MAX_SPEC = 256 * 1024
RETRY_S = 0.5
_AWAY = (ExitCode.DAEMON_DOWN, ExitCode.NETWORK)


@dataclass(frozen=True, slots=True)
class Round:
    """A finished round: `round` counts from 1, accuracy from 0 to 1, loss in nats, `samples` trained on by
    `clients` updates.
    """

    round: int
    accuracy: float
    loss: float
    seconds: float
    samples: int
    clients: int


class Client:
    """The daemon of one home. It keeps no connection, so it needs no closing.

    Args:
        home: the node's home folder; by default `$P2PML_HOME`, else the platform's folder.
        patience_s: how long the daemon may be away while a job is followed, for a restart say.
    """

    def __init__(self, home: str | Path | None = None, *, patience_s: float = 300.0) -> None:
        self.home = Home.locate(None if home is None else Path(home))
        self.patience_s = patience_s

    def train(
        self,
        spec: str | Path | Mapping[str, Any],
        on_round: Callable[[Round], None] | None = None,
        *,
        base_dir: str | Path | None = None,
    ) -> Job:
        """Begin a job.

        Args:
            spec: a spec file's path, or the spec itself.
            on_round: called by `Job.wait` for every finished round.
            base_dir: where relative paths in the spec start; the file's folder, or the current one.

        Raises:
            UserError: (code 7) a wrong spec; (code 14) too few tokens; (code 15) the node has no worker.
        """
        request = _request(spec, base_dir)
        with NodeClient(self.home) as node:
            started = node.post("/jobs", request, timeout_s=None)
        return Job(self, started["id"], on_round)

    def quote(
        self, spec: str | Path | Mapping[str, Any], *, base_dir: str | Path | None = None
    ) -> dict[str, Any]:
        """What a job would take, as `p2pml train --dry-run --json` says it; nothing is begun."""
        request = _request(spec, base_dir)
        with NodeClient(self.home) as node:
            answer: dict[str, Any] = node.post("/jobs/quote", request, timeout_s=None)
        return answer

    def jobs(self) -> list[Job]:
        """The jobs that this node asked for, newest first."""
        with NodeClient(self.home) as node:
            return [Job(self, item["id"]) for item in node.get("/jobs")]

    def job(self, job: str, on_round: Callable[[Round], None] | None = None) -> Job:
        """One of them by its id, or the start of it."""
        with NodeClient(self.home) as node:
            return Job(self, node.get(f"/jobs/{job}")["id"], on_round)


@dataclass(frozen=True, slots=True)
class Job:
    """A job of a node; it goes on whether anybody looks or not.

    Args:
        client: of the node.
        id: of the job.
        on_round: called by `wait`.
    """

    client: Client
    id: str
    on_round: Callable[[Round], None] | None = None

    def show(self) -> dict[str, Any]:
        """All that the node knows of it, as `p2pml job show --json` says it."""
        with NodeClient(self.client.home) as node:
            answer: dict[str, Any] = node.get(f"/jobs/{self.id}")
        return answer

    @property
    def state(self) -> str:
        """`preparing`, `waiting`, `running`, `settling`, `done`, `failed`, `stopped` or `suspended`."""
        return str(self.show()["state"])

    def rounds(self) -> list[Round]:
        """The rounds that are finished."""
        return [_round(item) for item in self.show()["history"]]

    def follow(self) -> Iterator[Round]:
        """Every finished round, then each that comes, until it is over; restarts of the node do not matter.

        Raises:
            UserError: (code 3) the daemon was away for longer than the client's patience.
        """
        for _, new in self._changes():
            yield from new

    def wait(self) -> Job:
        """Return once it is done; `on_round` is told every finished round, those before this call too.

        Raises:
            UserError: it ended otherwise, with the end's code (docs/guide/jobs.md); or as `follow`.
        """
        for record, new in self._changes():  # noqa: B007
            for each in new:
                if self.on_round is not None:
                    self.on_round(each)
        check_done(record)
        return self

    def report(self) -> str:
        """The job as an HTML page that needs nothing else."""
        with NodeClient(self.client.home) as node:
            place = f"/jobs/{self.id}"
            return render(node.get(place), node.get(f"{place}/spec")["spec"], node.get(f"{place}/log"))

    def tensorboard(self, folder: str | Path) -> Path:
        """Write its TensorBoard event files into a folder, which is made if it is not there; returns it.

        Raises:
            UserError: (code 2) there are some already; the folder cannot be written; no TensorBoard here.
        """
        log, history = self.log(), self.show()["history"]
        return write_event_files(history, log[0].at if log else 0.0, Path(folder))

    def log(self, after: int = 0) -> list[LogLine]:
        """The lines of its log with numbers greater than `after`, as far as the node still has them."""
        with NodeClient(self.client.home) as node:
            return [LogLine(**item) for item in node.get(f"/jobs/{self.id}/log", after=after)]

    def stop(self) -> None:
        """Have it end: what was earned is paid, the rest of the budget comes back; `wait` waits for that."""
        with NodeClient(self.client.home) as node:
            node.delete(f"/jobs/{self.id}")

    def resume(self) -> None:
        """Let a suspended job go on."""
        with NodeClient(self.client.home) as node:
            node.post(f"/jobs/{self.id}/resume", {})

    def result(self, folder: str | Path | None = None) -> Path:
        """The folder with model.json, model.safetensors, metrics.csv and report.json.

        Args:
            folder: copy them there; it is made if it is not there.

        Raises:
            UserError: there is no result (yet), or the copy cannot be made.
        """
        files = result_files(self.show())
        return (files if folder is None else copy_files(files, Path(folder)))[0].parent

    def _changes(self) -> Iterator[tuple[dict[str, Any], list[Round]]]:
        """The job's record whenever it changed, with the rounds that are new in it; the last one is final."""
        seen, away_since = 0, None
        while True:
            try:
                with NodeClient(self.client.home) as node:
                    for record in self._records(node):
                        away_since = None
                        new = [_round(item) for item in record["history"][seen:]]
                        seen += len(new)
                        yield record, new
                        if record["state"] in FINAL_STATES:
                            return
            except UserError as error:
                away_since = away_since or time.monotonic()
                if error.code not in _AWAY or time.monotonic() - away_since > self.client.patience_s:
                    raise
            time.sleep(RETRY_S)

    def _records(self, node: NodeClient) -> Iterator[dict[str, Any]]:
        """The job's record, now and whenever a round or the state says that it changed; until the node ends.

        Events only wake: what was missed, while the node was away or this program slept, is in the record.
        """
        record = node.get(f"/jobs/{self.id}")
        yield record
        for event in node.events(after=0, job=self.id):
            is_new_round = event.kind == "job.round" and event.data["round"] > len(record["history"])
            is_end = event.kind == "job.state" and event.data["state"] in FINAL_STATES
            if is_new_round or is_end or event.kind == "gap":
                record = node.get(f"/jobs/{self.id}")
                yield record


def read_spec(path: Path) -> str:
    """The text of a spec file.

    Raises:
        UserError: (code 7) missing, unreadable, too large, not text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SPEC + 1)
        if len(content) > MAX_SPEC:
            raise UserError(
                f"{path} is larger than a job spec may be", "name a job spec", ExitCode.BAD_CONFIG
            )
        return content.decode("utf-8")
    except OSError as error:
        raise UserError(
            f"the job spec {path} cannot be read: {error.strerror or error}",
            "check the path",
            ExitCode.BAD_CONFIG,
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"the job spec {path} is not UTF-8 text", "save it as UTF-8", ExitCode.BAD_CONFIG
        ) from error


def _request(spec: str | Path | Mapping[str, Any], base_dir: str | Path | None) -> dict[str, str]:
    """The body of a POST to `/jobs`. Raises UserError: (code 7) the spec cannot be read or written."""
    if isinstance(spec, Mapping):
        text, origin, folder = _yaml(spec), "the spec", Path.cwd()
    else:
        text, origin, folder = read_spec(Path(spec)), str(spec), Path(spec).absolute().parent
    place = folder if base_dir is None else Path(base_dir).absolute()
    return {"spec": text, "base_dir": str(place), "origin": origin}


def _yaml(spec: Mapping[str, Any]) -> str:
    """A spec as text. Raises UserError (code 7) when it holds what is no plain data."""
    import yaml  # JSON would do but for numbers like 1e-05, which YAML takes for text

    try:
        return yaml.safe_dump(_plain(spec))
    except (yaml.YAMLError, RecursionError) as error:
        kind = type(error.args[-1]).__name__  # PyYAML gives the value, too
        what = "it holds itself" if isinstance(error, RecursionError) else f"it has a value of type {kind}"
        raise UserError(
            f"the spec cannot be written as YAML: {what}",
            "use numbers, text, booleans, None, lists and dictionaries",
            ExitCode.BAD_CONFIG,
        ) from error


def _plain(value: Any) -> Any:
    """The value with lists and dictionaries of its own, since YAML refers back to one that comes twice, and
    with NumPy's numbers and arrays, and paths, as plain data.
    """
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy is not imported for this
        return _plain(value.tolist())
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _round(item: Mapping[str, Any]) -> Round:
    return Round(*(item[field.name] for field in fields(Round)))
