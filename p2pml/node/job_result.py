"""What is left of a job when it is over: the run's folder with the model and its history."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from p2pml.node.job_store import RoundDone
from p2pml.report import job_page
from p2pml.storage import job_log
from p2pml.storage.journal import write_atomic


def shown(done: RoundDone) -> dict[str, Any]:
    """A round as people see it; `round` counts from 1, `samples` are those that are paid for."""
    return {
        "round": done.number + 1,
        "accuracy": done.accuracy,
        "loss": done.loss,
        "seconds": done.seconds,
        "samples": _samples(done),
        "clients": len(done.counted),
        "spares": len(done.receipts) - len(done.counted),
    }


@dataclass(frozen=True, slots=True)
class Result:
    """What is kept of a job.

    Args:
        model: Keras JSON.
        weights: safetensors.
        rounds: in order.
        facts: what else the report says: all of `job show`.
        job: the job's folder, whose spec and log the page shows.
    """

    model: str
    weights: bytes
    rounds: list[RoundDone]
    facts: dict[str, Any]
    job: Path


def keep_result(result: Result, wanted: Path, reason: str) -> tuple[Path, str]:
    """Write a result to a folder, or below the job's where that one refuses it.

    Args:
        wanted: made if it is not there.
        reason: why the job ended; what the folder refuses is added.

    Returns:
        The place, and the reason.

    Raises:
        OSError: neither can be written.
    """
    instead = result.job / "result"
    try:
        _write(result, wanted, reason)
    except OSError as error:
        trouble = f"the result cannot be written to {wanted}: {error.strerror or error}"
        reason = f"{reason}; {trouble}" if reason else trouble
        _write(result, instead, reason)
        return instead, reason
    return wanted, reason


def _write(result: Result, folder: Path, reason: str) -> None:
    """Write the files of `p2pml.job_output.RESULT_FILES`."""
    history = [
        {
            **shown(done),
            "model_in": done.model_in.hex(),
            "model_out": done.model_out.hex(),
            "counted": list(done.counted),
            "receipts": [receipt.encode().hex() for receipt in done.receipts],
        }
        for done in result.rounds
    ]
    facts = {**result.facts, "output": str(folder), "reason": reason}
    report = json.dumps({**facts, "history": history}, indent=2, allow_nan=False)
    write_atomic(folder / "model.json", result.model.encode())
    write_atomic(folder / "model.safetensors", result.weights)
    write_atomic(folder / "report.json", f"{report}\n".encode())
    write_atomic(folder / "report.html", _page({**facts, "history": history}, result.job).encode())
    write_atomic(folder / "metrics.csv", "".join(f"{line}\n" for line in _metrics(result.rounds)).encode())


def _page(facts: dict[str, Any], job: Path) -> str:
    """As `p2pml job report` has it, without the log's last line, which is that the job is over."""
    spec = ""
    with suppress(OSError):
        spec = (job / "spec.yaml").read_text(encoding="utf-8")
    return job_page.render(facts, spec, [asdict(line) for line in job_log.read(job / job_log.FILE)])


def _metrics(rounds: list[RoundDone]) -> list[str]:
    lines = ["round,accuracy,loss,seconds,samples,clients,spares"]
    for done in rounds:
        numbers = f"{done.accuracy:.6f},{done.loss:.6f},{done.seconds:.3f}"
        count = len(done.counted)
        lines.append(f"{done.number + 1},{numbers},{_samples(done)},{count},{len(done.receipts) - count}")
    return lines


def _samples(done: RoundDone) -> int:
    return sum(receipt.commitment.samples for receipt in done.receipts)
