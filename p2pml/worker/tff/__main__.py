"""The process for TensorFlow Federated: `python -m p2pml.worker.tff`, started by a node behind
`p2pml.worker.tff.process.GUARD`."""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TextIO

from p2pml.formats import FormatError
from p2pml.worker.confine import confine
from p2pml.worker.no_network import raise_loopback
from p2pml.worker.tff.request import RoundRequest, TffRequest, TffResult, decode


def main() -> int:
    """Serve the node at the other end of standard input until it ends; the exit status."""
    if reason := _unguarded():
        print(f"p2pml.worker.tff is started by a node, not by hand: {reason}", file=sys.stderr)
        return 2
    requests, answers = _take_pipes()
    confine()
    raise_loopback()  # by it TFF speaks to its executor
    waiting: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(requests, waiting), daemon=True).start()

    from p2pml.worker.tff.factories import Aggregator
    from p2pml.worker.tff.simulation import Simulation

    aggregator, simulation = Aggregator(), Simulation()  # in this thread: TFF's context is the thread's

    def carry_out(request: TffRequest | RoundRequest) -> TffResult:
        if isinstance(request, RoundRequest):
            return simulation.carry_out(request)
        return aggregator.aggregate(request)

    while True:
        answer = _answer(carry_out, waiting.get())
        answers.write(answer.to_line())
        answers.flush()
        if answer.ended:
            return 1


def _unguarded() -> str:
    """Why TFF's executor would be reachable or could outlive us; empty when neither."""
    others = [name for _, name in socket.if_nameindex() if name != "lo"]
    if others:
        return f"it would listen on {others[0]}"
    return "" if os.getpid() == 1 else "it is not the first process of its namespace"


def _take_pipes() -> tuple[TextIO, TextIO]:
    """The node's pipes, where neither TFF's executor nor anything printed can get at them."""
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _read(requests: TextIO, waiting: queue.Queue[str]) -> None:
    """Take in requests while one is carried out, so that the node's end is noticed at once."""
    for line in requests:
        waiting.put(line)
    os._exit(0)


def _answer(carry_out: Callable[[TffRequest | RoundRequest], TffResult], line: str) -> TffResult:
    try:
        return carry_out(decode(line))
    except (FormatError, OSError) as error:
        return TffResult(error=str(error))
    except Exception as error:
        # TFF's executor may be gone: nothing says that the next request would fare better.
        traceback.print_exc(file=sys.stderr)
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:500]
        return TffResult(error=reason, ended=True)


if __name__ == "__main__":
    sys.exit(main())
