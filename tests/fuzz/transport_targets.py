"""Noise records, yamux frames, WebSocket frames."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request

from p2pml.net.errors import Closed, RemoteError
from p2pml.net.secure.records import MAX_PLAINTEXT, MAX_RECORD, RecordReader, RecordWriter
from p2pml.net.websocket_stream import WebSocketStream
from p2pml.net.yamux import frames
from p2pml.net.yamux.connection import Connection
from p2pml.net.yamux.frames import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW_UPDATE, FrameReader, encode
from p2pml.net.yamux.limits import Budget, Limits
from tests.fuzz.runner import Feed, Target

KEY = bytes(range(32))


def records() -> Feed:
    reader = RecordReader(KEY)

    def feed(data: bytes) -> None:
        payloads = reader.feed(data)
        assert all(0 < len(payload) <= MAX_PLAINTEXT for payload in payloads)
        assert reader.buffered < 2 + MAX_RECORD

    return feed


def cut_frames() -> Feed:
    reader = FrameReader()
    missing = 0

    def feed(data: bytes) -> None:
        nonlocal missing
        for event in reader.feed(data):
            if isinstance(event, frames.Header):
                assert missing == 0
                missing = event.length if event.kind == DATA else 0
            else:
                missing -= len(event.data)
                assert missing >= 0
                assert event.last == (missing == 0)

    return feed


def connection() -> Feed:
    """A side with a reader that takes what arrives on every third stream, and tight limits."""
    limits = Limits(inbound_streams=8, connection_unread=100_000, answers=64)
    budget = Budget(80_000)
    side = Connection(False, limits, budget, 0.0)
    now = 0.0
    side.open()
    kept: list[Any] = []

    def feed(data: bytes) -> None:
        nonlocal now
        now += 0.01
        side.receive(data, now)
        assert side.unread == sum(stream.inbox.size for stream in side.streams.values()) == budget.used
        assert side.unread <= limits.connection_unread
        assert len(side.streams) <= limits.inbound_streams + 1
        while side.arrived:
            kept.append(side.arrived.popleft())
        for stream in kept[::3]:
            if stream.ended is None:
                stream.take(10_000)
        size = sum(map(len, iter(side.next_chunk, None)))
        assert size <= 12 * (limits.answers + 4 * len(kept) + 16)

    return feed


def websocket() -> Feed:
    """A server's side once a client's request has been answered; who would answer pings is not there.

    Bytes come in two parts. One by one they may end otherwise: of a text that is cut off wsproto tells at its
    first byte, and not at all before.
    """
    protocol = WSConnection(ConnectionType.SERVER)
    protocol.receive_data(WSConnection(ConnectionType.CLIENT).send(Request(host="h", target="/")))
    assert [type(event) for event in protocol.events()] == [Request]
    protocol.send(AcceptConnection())
    unconnected: Any = SimpleNamespace(socket=None)
    side = WebSocketStream(unconnected, protocol)
    came = 0

    def feed(data: bytes) -> None:
        nonlocal came
        came += len(data)
        half = len(data) // 2
        for part in (data[:half], data[half:]):
            if side._ended:  # nobody reads on
                return
            try:
                side.take_in(part)
            except trio.BrokenResourceError as error:
                raise Closed(str(error)) from error
        assert len(side._unread) <= came
        assert len(side._answer) <= 2 + 125

    return feed


def _websocket(kind: int, body: bytes, final: bool = True) -> bytes:
    """A client's frame (RFC 6455, 5.2), masked by zeros."""
    size = bytes([0x80 | len(body)]) if len(body) < 126 else b"\xfe" + len(body).to_bytes(2, "big")
    return bytes([(0x80 if final else 0) | kind]) + size + bytes(4) + body


def _data(flags: int, stream: int, body: bytes) -> bytes:
    return encode(DATA, flags, stream, len(body)) + body


SESSIONS = (
    encode(WINDOW_UPDATE, SYN, 1, 0) + _data(0, 1, b"x" * 300) + _data(FIN, 1, b"end"),
    _data(SYN, 1, b"a") + _data(SYN, 3, b"b" * 40) + encode(WINDOW_UPDATE, RST, 1, 0) + _data(0, 3, b"c"),
    encode(WINDOW_UPDATE, ACK, 2, 1000) + _data(0, 2, b"answer") + encode(WINDOW_UPDATE, FIN, 2, 0),
    encode(PING, SYN, 0, 7) + encode(PING, ACK, 0, 1) + encode(GO_AWAY, 0, 0, 0),
)
HEADERS = tuple(
    encode(kind, flags, stream, length)
    for kind in range(4)
    for flags in (0, SYN, ACK, FIN, RST, SYN | FIN)
    for stream, length in ((0, 0), (1, 0), (1, 5), (2, 1), (3, 70_000), (5, 0xFFFFFFFF))
)

CONTINUATION, TEXT, BINARY, CLOSE, WS_PING, WS_PONG = 0, 1, 2, 8, 9, 10
WEBSOCKETS = (
    _websocket(BINARY, b"hello") + _websocket(BINARY, bytes(300)),
    _websocket(BINARY, b"be", final=False) + _websocket(WS_PING, b"?") + _websocket(CONTINUATION, b"gin"),
    _websocket(WS_PONG, b"") + _websocket(WS_PING, bytes(125)) + _websocket(CLOSE, b"\x03\xe8over"),
)
WEBSOCKET_HEADS = (
    _websocket(TEXT, b"text"),
    _websocket(BINARY, b"", final=False),
    *(bytes([first, second]) for first in (0x02, 0x82, 0x88, 0x89, 0xF2) for second in (0x00, 0xFE, 0xFF)),
    b"\x82\xff" + b"\xff" * 8,
    b"\x82\xff" + bytes(7) + b"\x01",
    b"\x88\x81" + bytes(5),
)

TARGETS = (
    Target("websocket frames", websocket, WEBSOCKETS, RemoteError, tokens=WEBSOCKET_HEADS, runs=8000),
    Target(
        "noise records",
        records,
        (
            RecordWriter(KEY).seal([b"one", b"", b"two" * 50]),
            RecordWriter(KEY).seal([bytes(700)]) + b"\x00\x20",
        ),
        RemoteError,
        parts=True,
        runs=3000,
        tokens=(
            RecordWriter(KEY, 1).seal([b"next"]),
            RecordWriter(KEY, 3).seal([b""]),
            b"\xff\xff",
            b"\x00\x0f",
        ),
    ),
    Target("yamux frames", cut_frames, SESSIONS, RemoteError, parts=True, tokens=HEADERS, runs=3000),
    Target("yamux connection", connection, SESSIONS, RemoteError, tokens=HEADERS),
)
