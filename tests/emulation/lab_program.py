"""A program that uses the lab, for tests that end it in every way: `lab_program.py KIND REGISTRY END`.

It prints one JSON line about what there is once everything runs, then returns, fails or waits, as END says.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from p2pml.lab.hosts.session import open_lab
from p2pml.scenario.links import Link


def main() -> None:
    kind, registry, end = sys.argv[1:]
    print("begin", flush=True)
    with open_lab(kind, runs=Path(registry)) as lab:
        lab.start(["a", "b"])
        code = "import subprocess; subprocess.run(['sleep', '1000'])"
        pids = [
            lab.run(name, [sys.executable, "-c", code], {}, lab.folder(name) / "log").pid
            for name in lab.names
        ]
        if kind != "processes":
            lab.shape("a", Link(rate=10_000_000, delay_ms=10))
            lab.partition([["a"], ["b"]])
        spaces = [str(Path(f"/proc/{pid}/ns/net").readlink()) for pid in pids]
        print(json.dumps({"run": lab.run_id, "pids": pids, "namespaces": spaces}), flush=True)
        if end == "failure":
            raise ValueError("the scenario failed")
        if end == "wait":
            time.sleep(120)


main()
