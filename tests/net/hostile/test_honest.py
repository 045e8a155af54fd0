"""What is asked of honest transfers under attack fails where a victim waits."""

from __future__ import annotations

import pytest
import trio

from p2pml.net.host import Host
from p2pml.net.streams import Stream
from tests.net.hostile.honest import BULK, STALL_S, Record, Trip, digest, trip

pytestmark = pytest.mark.slow


async def test_a_wait_is_seen() -> None:
    async def slow(stream: Stream) -> None:
        await trio.sleep(1.0)
        await digest(stream)

    async with Host(b"\x74" * 32).running() as victim, Host(b"\x75" * 32).running() as peer:
        await peer.connect(victim.addrs()[0])
        victim.handle(BULK, digest)
        record = Record()
        record.quiet += [await trip(peer, victim.peer_id) for _ in range(5)]
        record.attacked["none"] = [await trip(peer, victim.peer_id)]
        record.check("none")
        victim.handle(BULK, slow)
        seen = await trip(peer, victim.peer_id)
        assert seen.transfer >= seen.stall >= 0.9


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Trip(2.1, 0.1, 0.1), "times as long"),
        (Trip(0.2, STALL_S, 0.1), "waited"),
        (Trip(0.2, 0.1, STALL_S), "waited"),
    ],
)
def test_what_is_too_long(bad: Trip, words: str) -> None:
    record = Record()
    record.quiet += [Trip(0.1, 0.01, 0.01)] * 5
    record.attacked["it"] = [bad]
    with pytest.raises(AssertionError, match=words):
        record.check("it")
