"""What honest peers do at the victim while it is attacked, and how long each of it takes.

Attacker, victim and honest peers share one process and one processor, and other programs share the machine:
so what is taken under attack is compared with what the same peers took at rest a moment before, and the
bounds are wide. They tell a victim that waits for its attacker from one that does not; they are no measure of
speed.
"""

from __future__ import annotations

import hashlib
import random
import statistics
from collections import deque
from dataclasses import dataclass, field

import trio

from p2pml.net.host import Host
from p2pml.net.keepalive import ping
from p2pml.net.streams import Stream

BULK = "/test/bulk/1.0.0"
PAYLOAD = random.Random(1).randbytes(1 << 20)
SLICE = 64 * 1024
REMEMBERED = 21
"""Measurements at rest that the median is of."""
STALL_S = 5.0
"""The longest that an honest stream or ping may stand still, whatever the attack."""
SLOWER = 20.0
"""How much longer the median transfer under attack may take than the one at rest,"""
BRIEF_S = 2.0
"""unless it takes no longer than this: at rest a few milliseconds do, and other processes take as many."""


@dataclass(frozen=True, slots=True)
class Trip:
    """Seconds of one transfer there and back, of the longest time without a byte in it, and of a ping."""

    transfer: float
    stall: float
    ping: float


@dataclass(slots=True)
class Record:
    """What trips took at rest, and under each attack.

    Attributes:
        quiet: the newest at rest.
        attacked: by attack.
    """

    quiet: deque[Trip] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    attacked: dict[str, list[Trip]] = field(default_factory=dict)

    def check(self, name: str) -> None:
        """Fails when an attack disturbed the honest peers."""
        trips = self.attacked[name]
        stall = max(max(trip.stall, trip.ping) for trip in trips)
        assert stall < STALL_S, f"{name}: an honest peer waited {stall:.1f} s for a byte or a ping"
        slower, took = self.slower(name), statistics.median(trip.transfer for trip in trips)
        assert slower < SLOWER or took < BRIEF_S, f"{name}: honest transfers took {slower:.1f} times as long"

    def slower(self, name: str) -> float:
        """The median transfer under an attack over the one at rest."""
        rest = statistics.median(trip.transfer for trip in self.quiet)
        return statistics.median(trip.transfer for trip in self.attacked[name]) / rest

    def summary(self) -> str:
        """The distribution over all attacks, for people."""
        trips = [trip for found in self.attacked.values() for trip in found]
        if not trips:
            return "no attack"
        slower = sorted((self.slower(name), name) for name, found in self.attacked.items() if found)
        lines = [f"{len(self.attacked)} attacks, {len(trips)} honest trips"]
        for what in ("transfer", "stall", "ping"):
            values = sorted(getattr(trip, what) for trip in trips)
            rest = statistics.median(getattr(trip, what) for trip in self.quiet)
            told = ", ".join(f"p{p} {_percentile(values, p) * 1000:.0f}" for p in (50, 90, 99, 100))
            lines.append(f"{what}: {told} ms; at rest, median {rest * 1000:.0f} ms")
        lines.append(
            "slowest attacks: " + ", ".join(f"{name} {ratio:.1f}x" for ratio, name in slower[:-8:-1])
        )
        return "\n".join(lines)


async def trip(host: Host, victim: str) -> Trip:
    """A megabyte there and back on one stream, then a ping; wrong bytes fail."""
    stream = await host.open(victim, BULK)
    began = last = trio.current_time()
    longest = 0.0

    def moved() -> None:
        nonlocal last, longest
        now = trio.current_time()
        longest, last = max(longest, now - last), now

    try:
        await stream.write(len(PAYLOAD).to_bytes(4, "big"))
        for offset in range(0, len(PAYLOAD), SLICE):
            await stream.write(PAYLOAD[offset : offset + SLICE])
            moved()
        assert await stream.read_exact(32) == hashlib.sha256(PAYLOAD).digest()
        moved()
        received = bytearray()
        while len(received) < len(PAYLOAD):
            data = await stream.read_some()
            assert data, "the stream ended early"
            received += data
            moved()
        assert received == PAYLOAD
        took = trio.current_time() - began
        await stream.close()
    finally:
        await stream.reset()
    asked = trio.current_time()
    await ping(host, victim, 10)
    return Trip(took, longest, trio.current_time() - asked)


async def digest(stream: Stream) -> None:
    """The victim's side of a transfer: the hash of what came, then the same again."""
    size = int.from_bytes(await stream.read_exact(4), "big")
    received = await stream.read_exact(min(size, len(PAYLOAD)))
    await stream.write(hashlib.sha256(received).digest())
    await stream.write(received)


def _percentile(values: list[float], p: int) -> float:
    return values[min(len(values) - 1, len(values) * p // 100)]
