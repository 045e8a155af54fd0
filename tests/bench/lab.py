"""The lab's standing scenario on our transport and on libp2p's own: seconds, and processor time of all nodes.

The stacks take turns, so that a busy machine slows both alike. Every node says which stack it ran; a run
whose nodes said something else, or that failed, ends the measurement. Prints JSON: each run, and medians.

    python tests/bench/lab.py                                   # 3 runs of each on processes
    python tests/bench/lab.py --on namespaces --runs 5          # shaped links; Linux, as root
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from p2pml.config import TRANSPORTS
from p2pml.lab.run.runner import run_scenario

SCENARIO = Path(__file__).parents[2] / "examples" / "lab" / "lab.yaml"


def one_run(scenario: Path, kind: str, transport: str) -> dict[str, Any]:
    """Wall seconds of the scenario, and the processor seconds of its nodes with their workers.

    Raises:
        RuntimeError: the scenario failed, or a node ran on the other stack.
    """
    load = os.getloadavg()[0]
    report = run_scenario(scenario, kind, transport=transport)
    if report.failures:
        raise RuntimeError(f"{transport}: {'; '.join(report.failures)}")
    ran = {node.transport for node in report.nodes}
    if ran != {transport}:
        raise RuntimeError(f"nodes ran on {sorted(ran)}, not on {transport}")
    return {
        "transport": transport,
        "wall_s": report.seconds,
        "cpu_s": round(sum(node.cpu_s for node in report.nodes), 1),
        "load_before": round(load, 2),
    }


def measure(scenario: Path, kind: str, count: int) -> dict[str, Any]:
    runs = []
    for _ in range(count):
        for transport in TRANSPORTS:
            runs.append(one_run(scenario, kind, transport))
            print(runs[-1], file=sys.stderr)
    return {
        "scenario": scenario.name,
        "on": kind,
        "cpus": os.cpu_count(),
        "medians": {transport: medians(runs, transport) for transport in TRANSPORTS},
        "runs": runs,
    }


def medians(runs: list[dict[str, Any]], transport: str) -> dict[str, float]:
    return {
        name: statistics.median(run[name] for run in runs if run["transport"] == transport)
        for name in ("wall_s", "cpu_s")
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--on", choices=("processes", "namespaces"), default="processes")
    parser.add_argument("--runs", type=int, default=3, help="of each stack")
    parser.add_argument("--scenario", type=Path, default=SCENARIO)
    given = parser.parse_args()
    print(json.dumps(measure(given.scenario, given.on, given.runs), indent=2))


if __name__ == "__main__":
    main()
