"""The process that delays and drops packets in user space: one for a whole lab, `python -m p2pml.lab.pump`.

It holds one NFQUEUE socket in each host's network namespace. Packets are taken on *ingress*: there they no
longer belong to the sending socket, so that TCP's small-queue limit does not throttle the sender to what the
delay holds.

Commands arrive as JSON lines on standard input, each answered by one JSON line: `add` (host, netns, link,
seed), `link` (host, link), `remove` (host), `stats`. It ends when its standard input does, which is when the
lab is gone.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import select
import signal
import socket
import sys
import time
from dataclasses import asdict
from typing import Any

from p2pml.lab import netns, nfqueue
from p2pml.lab.delayline import DelayLine
from p2pml.scenario.links import Link

QUEUE = 7
_LENGTH = 200_000
_BATCH = 256
_RECEIVE_BUFFER = 16 << 20
_REPLY_S = 5.0


class Queue:
    """NFQUEUE number `QUEUE` of one network namespace with its delay line.

    Args:
        path: the namespace's file.
        link: what to do to the packets.
        seed: of the losses and the jitter.

    Raises:
        OSError: no such namespace, no permission, or the queue is taken.
    """

    def __init__(self, path: str, link: Link, seed: str) -> None:
        self.line = DelayLine(link, random.Random(seed))
        self.late = 0.0
        self.refused = 0
        self._view = bytearray(4096)
        self.socket = netns.call(
            path, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, nfqueue.NETLINK_NETFILTER)
        )
        try:
            self.socket.bind((0, 0))
            self.socket.setsockopt(socket.SOL_SOCKET, nfqueue.SO_RCVBUFFORCE, _RECEIVE_BUFFER)
            self.socket.setsockopt(nfqueue.SOL_NETLINK, nfqueue.NETLINK_NO_ENOBUFS, 1)
            self._request(nfqueue.bind(QUEUE))
            self.set_link(link)
        except BaseException:
            self.socket.close()
            raise

    def _request(self, message: bytes) -> None:
        """Send a request and wait for its reply; packets that come first are taken as usual."""
        self.socket.settimeout(_REPLY_S)
        self.socket.send(message)
        try:
            while True:
                got = nfqueue.decode(self._view, self.socket.recv_into(self._view))
                if isinstance(got, nfqueue.Packet):
                    self._take(got.id)
                elif got.errno:
                    raise OSError(got.errno, f"NFQUEUE: {os.strerror(got.errno)}")
                else:
                    return
        finally:
            self.socket.setblocking(False)

    def set_link(self, link: Link) -> None:
        """Apply `link` from the next packet on."""
        # A loss must hit one packet of the wire, not 64 KiB of them at once.
        self._request(nfqueue.configure(QUEUE, length=_LENGTH, super_packets=not link.loss))
        self.line.set_link(link)

    def _take(self, packet_id: int) -> None:
        if not self.line.arrive(packet_id, time.monotonic()):
            self._send(nfqueue.verdict(QUEUE, packet_id, nfqueue.DROP))

    def _send(self, message: bytes) -> None:
        # The kernel handles a verdict within send(); a full buffer is that of its answers.
        with contextlib.suppress(BlockingIOError):
            self.socket.send(message)

    def receive(self) -> None:
        """Take the packets that wait, a batch at most."""
        for _ in range(_BATCH):
            try:
                size = self.socket.recv_into(self._view)
            except BlockingIOError:
                return
            got = nfqueue.decode(self._view, size)
            if isinstance(got, nfqueue.Packet):
                self._take(got.id)
            elif got.errno:
                self.refused += 1

    def release(self, now: float) -> None:
        """Let through what is due."""
        due = self.line.deadline()
        if due is None or due > now:
            return
        self.late = max(self.late, now - due)
        newest = self.line.release(now)
        if newest is not None:
            self._send(nfqueue.verdict_up_to(QUEUE, newest, nfqueue.ACCEPT))

    def stats(self) -> dict[str, float]:
        """Packets seen, dropped and waiting, verdicts refused, and the latest release (ms after its time)."""
        return {
            "seen": self.line.seen,
            "dropped": self.line.dropped,
            "waiting": len(self.line),
            "refused": self.refused,
            "late_ms": round(self.late * 1e3, 3),
        }


class Pump:
    """All queues and the commands that change them."""

    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}
        self._pending = b""

    def command(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command.

        Raises:
            OSError, KeyError, ValueError: it cannot be done.
        """
        host = request.get("host", "")
        match request["op"]:
            case "add":
                self._remove(host)
                self.queues[host] = Queue(request["netns"], Link(**request["link"]), request["seed"])
            case "link":
                self.queues[host].set_link(Link(**request["link"]))
            case "remove":
                self._remove(host)
            case "stats":
                return {name: queue.stats() for name, queue in self.queues.items()}
            case other:
                raise ValueError(f"unknown command {other!r}")
        return {}

    def _remove(self, host: str) -> None:
        if queue := self.queues.pop(host, None):
            queue.socket.close()

    def read_commands(self, fd: int) -> bool:
        """Read and answer what waits on `fd`; False at its end."""
        data = os.read(fd, 65536)
        self._pending += data
        *lines, self._pending = self._pending.split(b"\n")
        for line in lines:
            try:
                answer = {"ok": True, **self.command(json.loads(line))}
            except (OSError, KeyError, ValueError, TypeError) as error:
                answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
        return bool(data)

    def run(self, fd: int) -> None:
        """Pump until `fd` ends."""
        while True:
            queues = {queue.socket.fileno(): queue for queue in self.queues.values()}
            deadlines = [due for queue in queues.values() if (due := queue.line.deadline()) is not None]
            timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
            ready, _, _ = select.select([fd, *queues], [], [], timeout)
            for number in ready:
                if number in queues:
                    queues[number].receive()
            now = time.monotonic()
            for queue in queues.values():
                queue.release(now)
            if fd in ready and not self.read_commands(fd):
                return


def link_fields(link: Link) -> dict[str, Any]:
    """A link as a command carries it."""
    return asdict(link)


def main() -> None:
    """Run the pump on standard input and output."""
    # Ctrl-C reaches a whole terminal: the lab decides when the pump goes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # nothing here makes cycles, and a collection would make packets late
    # Real time where that is allowed: packets are due to the millisecond, also on a busy machine.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    Pump().run(sys.stdin.fileno())


if __name__ == "__main__":
    main()
