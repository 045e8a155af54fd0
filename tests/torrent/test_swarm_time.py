"""One swarm on the test's clock: time-outs, early ticks, events that come too late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torrent.geometry import BLOCK
from torrent.messages import (
    KeepAlive,
    Unchoke,
)
from torrent.swarm import (
    BlockRead,
    BlockReadFailed,
    BytesReceived,
    BytesSent,
    Halted,
    PeerDisconnected,
    PieceFailed,
    VerifyAndWrite,
    WriteFailed,
)

Make = Callable[..., Any]


def test_time_outs(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    assert w.swarm.deadline() is None
    w.connect("mute", greet=False)
    w.connect("idle")
    w.connect("alive")
    assert w.swarm.deadline() == w.now + 1.0
    w.wait(21)
    assert [(d.peer, d.reason) for d in w.drops()] == [("mute", "no handshake")]
    for _ in range(3):
        w.wait(80)
        w.say("alive", KeepAlive())
    assert [(d.peer, d.reason) for d in w.drops()][1:] == [("idle", "silent")]
    assert w.heard("alive").count(KeepAlive()) == 2
    w.do(PeerDisconnected("alive"))
    assert w.swarm.deadline() is None
    assert w.swarm.tick(w.now + 1000) == []


def test_a_tick_too_early_does_nothing(wire: Make, content: Make) -> None:
    w = wire(content(100_000))
    w.connect("a")
    assert w.swarm.tick(w.now + 0.5) == []


def test_events_of_unknown_peers_are_ignored(wire: Make, content: Make) -> None:
    w = wire(content(100_000), have=[0])
    for event in (
        PeerDisconnected("x"),
        BytesReceived("x", b"junk"),
        BytesSent("x", 5),
        BlockRead("x", 0, 0, b"d"),
        BlockReadFailed("x", 0, 0, 1),
        PieceFailed(1),
        WriteFailed(2, "why"),
    ):
        assert [e for e in w.do(event) if not isinstance(e, Halted)] == []


def test_a_verification_that_ends_after_everybody_left(wire: Make, content: Make) -> None:
    w = wire(content(BLOCK, piece_length=BLOCK))
    w.connect("a", [0])
    w.say("a", Unchoke())
    (block,) = w.requests("a")
    effects = w.give("a", block)
    w.do(PeerDisconnected("a"))
    assert isinstance(effects[0], VerifyAndWrite)
    w.judge(effects)
    assert w.swarm.complete
    assert w.swarm.stats(w.now).sources == {"a": BLOCK}
