"""One line for each report of the lab below a folder: `python -m tests.emulation.summary FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def line(report: dict[str, Any]) -> str:
    """What came of one run."""
    final, accuracy = (
        report["finality"],
        [job["rounds"][-1]["accuracy"] for job in report["jobs"] if job["rounds"]],
    )
    parts = [
        f"{report['scenario']} on {report['backend']}: {'ok' if report['ok'] else 'FAILED'}",
        f"{report['seconds']:g} s",
        f"{sum(node['cpu_s'] for node in report['nodes']):.0f} CPU s of {len(report['nodes'])} nodes",
        f"links {report['link']} by {report['shaping']}",
        *(f"accuracy {found:.1%}" for found in accuracy),
        *([f"final after {final['median_s']:g} s (p95 {final['p95_s']:g})"] if final else []),
        f"checks {' '.join(item['name'] for item in report['checks'] if item['ok'])}",
    ]
    return ", ".join(parts)


if __name__ == "__main__":
    for path in sorted(Path(sys.argv[1]).glob("*/report.json")):
        print(line(json.loads(path.read_text())))
    for path in sorted(Path(sys.argv[1]).glob("links-*.jsonl")):
        print(path.read_text(), end="")
