"""The lanes of a window: `python -m p2pml.worker.lanes FOLDER CHALLENGE KERNEL CAP NICE SECONDS ENDS ...`,
started by a pool. `ENDS` of each lane are the descriptors of its end of a socket pair and of its log.

They are forked from one process, so that all give way as one session (`give_way`): as many sessions as the
machine has cores would together weigh more than whatever its owner does.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from p2pml.worker.give_way import give_way


def main(arguments: list[str]) -> int:
    """Serve the pool until it says stop or ends; the exit status."""
    try:
        folder, challenge, kernel, cap, nice, seconds, *ends = arguments
        given, percent, level, window = bytes.fromhex(challenge), int(cap), int(nice), float(seconds)
        lanes = [tuple(map(int, end.split(","))) for end in ends]
    except ValueError:
        print("p2pml.worker.lanes is started by p2pml, not by hand", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the pool's to handle
    give_way(level)
    for socket, log in lanes:
        if os.fork() == 0:
            os.dup2(socket, 0)
            os.dup2(socket, 1)
            os.dup2(log, 2)
            _close(lanes)  # or the pool would not notice the end of another lane
            return serve(Path(folder), given, kernel, percent, window)
    _close(lanes)
    with suppress(ChildProcessError):  # all have ended
        while True:
            os.wait()
    return 0


def _close(lanes: list[tuple[int, ...]]) -> None:
    for lane in lanes:
        for descriptor in lane:
            os.close(descriptor)


def serve(folder: Path, challenge: bytes, kernel: str, cap: int, seconds: float) -> int:
    """Be one lane; the exit status."""
    from p2pml.worker.lanes.duty import Duty, slack_of
    from p2pml.worker.lanes.lane import Ended, Lane, Orders, build

    def tell(line: str) -> None:
        os.write(1, line.encode("ascii") + b"\n")

    try:
        duty = Duty(cap, slack=slack_of(cap, seconds))
        Lane(build(folder, kernel), challenge, duty, Orders(0), tell).serve()
    except (Ended, ConnectionError):
        return 0
    except ImportError as error:
        print(f"the kernel {kernel} cannot be loaded: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
