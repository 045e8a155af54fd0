"""The lanes of a window: `python -m p2pml.worker.lanes FOLDER CHALLENGE KERNEL CAP NICE SECONDS SOCKET ...`,
started by a pool. `SOCKET` of each lane is the descriptor of its end of a socket pair.

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
from p2pml.worker.lanes.logs import open_log


def main(arguments: list[str]) -> int:
    """Serve the pool until it says stop or ends; the exit status."""
    try:
        name, challenge, kernel, cap, nice, seconds, *ends = arguments
        given, percent, level, window = bytes.fromhex(challenge), int(cap), int(nice), float(seconds)
        sockets, folder = list(map(int, ends)), Path(name)
    except ValueError:
        print("p2pml.worker.lanes is started by p2pml, not by hand", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the pool's to handle
    give_way(level)
    for lane, socket in enumerate(sockets):
        if os.fork() == 0:
            os.dup2(socket, 0)
            os.dup2(socket, 1)
            _close(sockets)  # or the pool would not notice the end of another lane
            with suppress(OSError):  # then it writes into the log of them all
                _write_into(open_log(folder, lane))
            return serve(folder, given, kernel, percent, window)
    _close(sockets)
    with suppress(ChildProcessError):  # all have ended
        while True:
            os.wait()
    return 0


def _close(sockets: list[int]) -> None:
    for socket in sockets:
        os.close(socket)


def _write_into(log: int) -> None:
    os.dup2(log, 2)
    os.close(log)


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
