"""Whatever a peer sends and whenever it comes or goes, the machine does not raise and stays consistent."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torrent.extended import UT_METADATA, Terms
from torrent.geometry import BLOCK, Block
from torrent.messages import (
    AllowedFast,
    BitfieldMessage,
    Cancel,
    Choke,
    Decoder,
    Extended,
    Handshake,
    Have,
    HaveAll,
    HaveNone,
    Interested,
    KeepAlive,
    NotInterested,
    Piece,
    Reject,
    Request,
    Suggest,
    Unchoke,
    reserved_bytes,
)
from torrent.swarm import (
    BytesReceived,
    Disconnect,
    PeerConnected,
    PeerDisconnected,
    PieceFailed,
    PieceVerified,
    Send,
    Swarm,
    VerifyAndWrite,
)

Make = Callable[..., Any]
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)

small = st.integers(0, 7) | st.integers(0, 2**32 - 1)
offsets = st.sampled_from([0, BLOCK, 2 * BLOCK, 5]) | small
blocks = st.builds(Block, small, offsets, st.sampled_from([BLOCK, 1, 0]) | small)
terms = st.builds(
    Terms,
    st.dictionaries(st.just(UT_METADATA), st.integers(0, 255)),
    st.none() | st.integers(0, 300),
    st.none() | small,
    st.booleans(),
    st.text(max_size=5),
)
reserved = st.builds(reserved_bytes, fast=st.booleans(), extended=st.booleans())
messages = st.one_of(
    st.sampled_from([KeepAlive(), Choke(), Unchoke(), Interested(), NotInterested(), HaveAll(), HaveNone()]),
    st.builds(Suggest, small),
    st.builds(Reject, blocks),
    st.builds(AllowedFast, small),
    st.builds(lambda said: Extended(0, said.encode()), terms),
    st.builds(Extended, st.integers(0, 3), st.binary(max_size=9)),
    st.builds(Have, small),
    st.builds(BitfieldMessage, st.binary(max_size=2)),
    st.builds(Request, blocks),
    st.builds(Cancel, blocks),
    st.builds(Piece, small, offsets, st.sampled_from([b"", b"x", bytes(BLOCK)])),
)


def feed(swarm: Swarm, data: bytes, step: int) -> bool:
    """Feed a stream to peer ``a`` in steps; whether it is still connected."""
    for at in range(0, len(data), step):
        for effect in swarm.receive(BytesReceived("a", data[at : at + step]), 1.0 + at / 1000):
            if isinstance(effect, Disconnect):
                return False
    return True


@SHARED
@given(st.lists(messages, max_size=10), st.binary(max_size=30), st.none() | reserved, st.integers(0, 400))
def test_fuzz_whole_and_byte_at_a_time(
    content: Make, items: list[Any], noise: bytes, greeting: bytes | None, flip: int
) -> None:
    sample = content(6 * 2 * BLOCK + 100, piece_length=2 * BLOCK)
    hello = b""
    if greeting is not None:
        hello = Handshake(sample.metainfo.info_hash, b"p" * 20, greeting).encode()
    data = bytearray(hello + b"".join(item.encode() for item in items)[:20_000] + noise)
    if data and flip < len(data):
        data[flip] ^= 1
    alive = []
    for step in (max(1, len(data)), 1 if len(data) < 600 else 97):
        swarm = Swarm(sample.metainfo, [0, 1], rng=random.Random(1))
        swarm.receive(PeerConnected("a", "192.0.2.7"), 0.0)
        alive.append(feed(swarm, bytes(data), step))
        assert swarm.peers == (("a",) if alive[-1] else ())
    assert alive[0] == alive[1]


@pytest.mark.slow
@SHARED
@given(st.data())
def test_fuzz_events_in_any_order(content: Make, data: st.DataObject) -> None:
    """Peers come, go, lie, choke and fall silent, pieces fail; afterwards a seed completes it all."""
    sample = content(5 * 2 * BLOCK, piece_length=2 * BLOCK)
    swarm = Swarm(sample.metainfo, [], rng=random.Random(1))
    pending: list[int] = []
    now = 0.0

    def note(effects: list[Any]) -> None:
        pending.extend(e.index for e in effects if isinstance(e, VerifyAndWrite))

    for _ in range(data.draw(st.integers(0, 25))):
        now += data.draw(st.sampled_from([0.0, 0.5, 5.0, 25.0]))
        peer = data.draw(st.sampled_from("abc"))
        match data.draw(st.integers(0, 5)):
            case 0 if peer not in swarm.peers:
                hello = Handshake(sample.metainfo.info_hash, b"p" * 20, data.draw(reserved)).encode()
                note(swarm.receive(PeerConnected(peer, data.draw(st.sampled_from([None, "192.0.2.7"]))), now))
                note(swarm.receive(BytesReceived(peer, hello), now))
            case 1:
                note(swarm.receive(PeerDisconnected(peer), now))
            case 2:
                note(swarm.tick(now))
            case 3 if pending:
                verdict = data.draw(st.sampled_from([PieceVerified, PieceFailed]))
                note(swarm.receive(verdict(pending.pop()), now))
            case _:
                items = data.draw(st.lists(messages, min_size=1, max_size=4))
                note(swarm.receive(BytesReceived(peer, b"".join(i.encode() for i in items)), now))
    for index in pending:
        swarm.receive(PieceFailed(index), now)
    for peer in swarm.peers:
        swarm.receive(PeerDisconnected(peer), now)
    finish(swarm, sample, now)


def finish(swarm: Swarm, sample: Any, now: float) -> None:
    """An honest seed arrives: everything must come, whatever happened before."""
    decoder = Decoder()
    todo = swarm.receive(PeerConnected("seed"), now)
    opening = Handshake(sample.metainfo.info_hash, b"s" * 20).encode()
    opening += BitfieldMessage(b"\xf8").encode() + Unchoke().encode()
    todo += swarm.receive(BytesReceived("seed", opening), now)
    for _ in range(200):
        if not todo:
            now += 1.0
            todo = swarm.tick(now)
        answers: list[Any] = []
        for effect in todo:
            if isinstance(effect, VerifyAndWrite):
                assert sample.metainfo.verify_piece(effect.index, effect.data)
                answers += swarm.receive(PieceVerified(effect.index), now)
            elif isinstance(effect, Send):
                for message in decoder.feed(effect.data):
                    if isinstance(message, Request):
                        block = message.block
                        piece = Piece(block.piece, block.begin, sample.block(block)).encode()
                        answers += swarm.receive(BytesReceived("seed", piece), now)
        todo = answers
        if swarm.complete:
            return
    raise AssertionError(f"not complete: {swarm.stats(now)}")
