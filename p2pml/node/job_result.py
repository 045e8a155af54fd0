"""What is left of a job when it is over: the run's folder with the model and its history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from p2pml.node.job_store import RoundDone
from p2pml.storage.journal import write_atomic


def shown(done: RoundDone) -> dict[str, Any]:
    """A round as people see it; `round` counts from 1."""
    return {
        "round": done.number + 1,
        "accuracy": done.accuracy,
        "loss": done.loss,
        "seconds": done.seconds,
        "samples": _samples(done),
        "clients": len(done.receipts),
    }


def write_result(
    folder: Path, model: str, weights: bytes, rounds: list[RoundDone], facts: dict[str, Any]
) -> None:
    """Write model.json, model.safetensors, report.json and metrics.csv.

    Args:
        folder: made if it is not there.
        model: Keras JSON.
        weights: safetensors.
        rounds: in order.
        facts: what else the report says.

    Raises:
        OSError: the folder cannot be written.
    """
    history = [
        {
            **shown(done),
            "model_in": done.model_in.hex(),
            "model_out": done.model_out.hex(),
            "receipts": [receipt.encode().hex() for receipt in done.receipts],
        }
        for done in rounds
    ]
    report = json.dumps({**facts, "history": history}, indent=2, allow_nan=False)
    write_atomic(folder / "model.json", model.encode())
    write_atomic(folder / "model.safetensors", weights)
    write_atomic(folder / "report.json", f"{report}\n".encode())
    write_atomic(folder / "metrics.csv", "".join(f"{line}\n" for line in _metrics(rounds)).encode())


def _metrics(rounds: list[RoundDone]) -> list[str]:
    lines = ["round,accuracy,loss,seconds,samples,clients"]
    for done in rounds:
        numbers = f"{done.accuracy:.6f},{done.loss:.6f},{done.seconds:.3f}"
        lines.append(f"{done.number + 1},{numbers},{_samples(done)},{len(done.receipts)}")
    return lines


def _samples(done: RoundDone) -> int:
    return sum(receipt.commitment.samples for receipt in done.receipts)
