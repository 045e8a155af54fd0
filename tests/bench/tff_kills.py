"""Whether anything is left of TensorFlow Federated's process after a kill.

    python -m tests.bench.tff_kills               # 20 kills, about 5 minutes
    python -m tests.bench.tff_kills --smoke       # one

Each time a stand-in for a node (`tests.worker.tff_owner`) has it aggregate; then one of these is killed by
SIGKILL: the node, the guard, or the first process of the namespace; while it starts, or once TFF's executor
runs. Prints JSON: how many kills, and how often a process was left ten seconds later.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.worker.namespaces import emptied, first_process, members, namespace

REPO = Path(__file__).parents[2]
VICTIMS = ("node", "guard", "first process")


def kill_one(victim: str, running: bool, pause: float) -> bool:
    """One kill; whether everything was gone after it.

    Args:
        victim: one of `VICTIMS`.
        running: once the executor runs; while it starts otherwise.
        pause: seconds before the kill.
    """
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.worker.tff_owner", folder]
        pipes: Any = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.DEVNULL,
        }  # it complains when it loses it
        with subprocess.Popen(command, cwd=REPO, text=True, **pipes) as owner:
            assert owner.stdout is not None
            guard = int(owner.stdout.readline())
            while (first := first_process(guard)) is None:
                time.sleep(0.01)
            inside = namespace(first, "pid")
            if running:
                owner.stdout.readline()
                assert "worker_binary" in members(inside).values()
            time.sleep(pause)
            os.kill({"node": owner.pid, "guard": guard, "first process": first}[victim], signal.SIGKILL)
            # A living node starts another process: that one is not what is asked for.
            gone = emptied(inside)
            owner.kill()
        return gone


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    rng, done, left = random.Random(1), Counter[str](), 0
    for number in range(1 if given.smoke else given.kills):
        victim, running = VICTIMS[number % len(VICTIMS)], number % 2 == 1
        gone = kill_one(victim, running, rng.uniform(0, 1))
        done[f"{victim}, {'running' if running else 'starting'}"] += 1
        left += not gone
        print(f"{number + 1}: {victim} killed, {'all gone' if gone else 'SOMETHING LEFT'}", file=sys.stderr)
    found: dict[str, Any] = {"kills": sum(done.values()), "left": left, "of": dict(done)}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
