"""TensorBoard event files of a job: `python -m p2pml.worker.event_files FOLDER`, the job as JSON on stdin.

In a process of its own, started by whoever wants the files: TensorBoard's writer loads TensorFlow.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def main(folder: str) -> int:
    """Write the files; returns the exit status, 0 or, where TensorBoard is missing, 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        print(f"TensorBoard cannot be loaded: {error}", file=sys.stderr)
        return 2
    job = json.load(sys.stdin)
    writer = EventFileWriter(folder)
    for moment, step, values in points(job["history"], job["begun"]):
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        writer.add_event(Event(wall_time=moment, step=step, summary=Summary(value=scalars)))
    writer.close()
    return 0


def points(
    history: Sequence[Mapping[str, Any]], begun: float
) -> Iterator[tuple[float, int, dict[str, float]]]:
    """Time, step and scalars of what is to be seen; steps are rounds, or samples where the tag says so.

    Args:
        history: the job's finished rounds.
        begun: when the job began, seconds since 1970; a round ends so long after it as all rounds took.
    """
    moment, samples = begun, 0
    for item in history:
        moment += item["seconds"]
        samples += item["samples"]
        result = {"accuracy": item["accuracy"], "loss": item["loss"]}
        per_round = {"round/seconds": item["seconds"], "round/updates": item["clients"]}
        yield moment, item["round"], result | per_round
        yield moment, samples, {f"by samples/{tag}": value for tag, value in result.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
