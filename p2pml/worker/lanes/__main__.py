"""One lane: `python -m p2pml.worker.lanes FOLDER CHALLENGE KERNEL CAP NICE SECONDS`, started by a pool."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Serve the pool until it says stop or ends; the exit status."""
    try:
        folder, challenge, kernel, cap, nice, seconds = arguments
        given, percent, level, window = bytes.fromhex(challenge), int(cap), int(nice), float(seconds)
    except ValueError:
        print("p2pml.worker.lanes is started by p2pml, not by hand", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the pool's to handle
    os.nice(level)

    from p2pml.worker.lanes.duty import Duty, slack_of
    from p2pml.worker.lanes.lane import Ended, Lane, Orders, build

    def tell(line: str) -> None:
        os.write(1, line.encode("ascii") + b"\n")

    try:
        duty = Duty(percent, slack=slack_of(percent, window))
        Lane(build(Path(folder), kernel), given, duty, Orders(0), tell).serve()
    except (Ended, BrokenPipeError):
        return 0
    except ImportError as error:
        print(f"the kernel {kernel} cannot be loaded: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
