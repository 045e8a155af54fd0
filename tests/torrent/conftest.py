"""Scripted peers against one swarm (``wire``); whole swarms on a virtual clock and shaped links (``net``)."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from torrent.bitfield import Bitfield
from torrent.config import SwarmConfig
from torrent.errors import LocalError
from torrent.geometry import Block
from torrent.hashing import PieceHasher
from torrent.messages import BitfieldMessage, Decoder, Handshake, Message, Piece, Request
from torrent.metainfo import Metainfo, create, plan
from torrent.swarm import (
    BlockRead,
    BytesReceived,
    BytesSent,
    Completed,
    Disconnect,
    Effect,
    Event,
    PeerConnected,
    PeerDisconnected,
    PieceFailed,
    PieceVerified,
    ReadBlock,
    Send,
    Swarm,
    VerifyAndWrite,
)


@dataclass(frozen=True)
class Content:
    """A torrent and its stream of bytes."""

    metainfo: Metainfo
    stream: bytes

    def piece(self, index: int) -> bytes:
        start = index * self.metainfo.piece_length
        return self.stream[start : start + self.metainfo.piece_length]

    def block(self, block: Block) -> bytes:
        return self.piece(block.piece)[block.begin : block.begin + block.length]


def _content(*sizes: int, piece_length: int = 32_768, seed: int = 1, private: bool = False) -> Content:
    rng = random.Random(seed)
    files = plan([((f"file{n}",), size) for n, size in enumerate(sizes)], piece_length)
    stream = b"".join(bytes(file.length) if file.pad else rng.randbytes(file.length) for file in files)
    hasher = PieceHasher(piece_length)
    hasher.update(stream)
    return Content(create("sample", files, piece_length, hasher.finish(), private=private), stream)


class Wire:
    """One swarm whose peers, store and clock are in the test's hand."""

    def __init__(self, content: Content, have: Iterable[int], options: dict[str, object]) -> None:
        self.content = content
        self.now = 100.0
        self.rng = random.Random(7)
        self.swarm = Swarm(content.metainfo, have, rng=self.rng, **options)  # type: ignore[arg-type]
        self.effects: list[Effect] = []
        self._decoders: dict[str, Decoder] = {}
        self._heard: dict[str, list[Message]] = {}

    def do(self, event: Event) -> list[Effect]:
        return self._note(self.swarm.receive(event, self.now))

    def wait(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass, ticking whenever the swarm asked for it."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + step)
            deadline = self.swarm.deadline()
            if deadline is not None and deadline <= self.now:
                self._note(self.swarm.tick(self.now))

    def _note(self, effects: list[Effect]) -> list[Effect]:
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Send):
                self._heard[effect.peer] += self._decoders[effect.peer].feed(effect.data)
            elif isinstance(effect, Disconnect):
                self._decoders.pop(effect.peer, None)
        return effects

    def connect(
        self,
        peer: str,
        pieces: Iterable[int] | None = None,
        greet: bool = True,
        reserved: bytes = bytes(8),
        ipv4: str | None = None,
    ) -> None:
        """``pieces``: what the peer announces at once; ``None`` says nothing. Without ``reserved`` it is an
        old peer.
        """
        self._decoders[peer], self._heard[peer] = Decoder(), []
        self.do(PeerConnected(peer, ipv4))
        if greet:
            name = peer.encode().ljust(20, b"-")
            self.say(peer, Handshake(self.content.metainfo.info_hash, name, reserved))
        if pieces is not None:
            count = self.content.metainfo.piece_count
            self.say(peer, BitfieldMessage(Bitfield(count, pieces).to_bytes()))

    def say(self, peer: str, *messages: Message) -> list[Effect]:
        data = b"".join(m.encode() for m in messages)  # type: ignore[union-attr]
        return self.do(BytesReceived(peer, data))

    def heard(self, peer: str) -> list[Message]:
        """What the peer was sent since the last call; counts as sent."""
        messages, self._heard[peer] = self._heard[peer], []
        return messages

    def requests(self, peer: str) -> list[Block]:
        return [m.block for m in self.heard(peer) if isinstance(m, Request)]

    def give(self, peer: str, block: Block, flip: bool = False) -> list[Effect]:
        """Answer a request, truly or with a flipped bit."""
        data = bytearray(self.content.block(block))
        if flip:
            data[0] ^= 1
        return self.say(peer, Piece(block.piece, block.begin, bytes(data)))

    def judge(self, effects: list[Effect]) -> list[Effect]:
        """Answer every ``VerifyAndWrite`` among ``effects`` as a store would."""
        answers: list[Effect] = []
        for effect in effects:
            if isinstance(effect, VerifyAndWrite):
                right = self.content.metainfo.verify_piece(effect.index, effect.data)
                answers += self.do(PieceVerified(effect.index) if right else PieceFailed(effect.index))
        return answers

    def drops(self) -> list[Disconnect]:
        return [effect for effect in self.effects if isinstance(effect, Disconnect)]


@dataclass
class Node:
    """A peer of the virtual network: ``rate`` of its uplink in bytes/s; ``lies`` bend what it reads."""

    name: str
    swarm: Swarm
    store: dict[int, bytes]
    rate: float
    lies: Callable[[ReadBlock, bytes], bytes] | None = None
    free_at: float = 0.0
    armed: float | None = None
    done_at: float | None = None
    dropped: list[Disconnect] = field(default_factory=list)


class Net:
    """Event heap, links with latency, uplinks that send one thing after another."""

    def __init__(self, content: Content, latency: float = 0.02, seed: int = 3) -> None:
        self.content = content
        self.latency = latency
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self._rng = random.Random(seed)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._links: dict[frozenset[str], int] = {}

    def add(
        self,
        name: str,
        pieces: Iterable[int] = (),
        *,
        rate: float = 1e6,
        wanted: Iterable[int] | None = None,
        lies: Callable[[ReadBlock, bytes], bytes] | None = None,
        config: SwarmConfig | None = None,
    ) -> Node:
        store = {index: self.content.piece(index) for index in pieces}
        rng = random.Random(self._rng.random())
        swarm = Swarm(self.content.metainfo, store, rng=rng, wanted=wanted, config=config)
        self.nodes[name] = Node(name, swarm, store, rate, lies)
        return self.nodes[name]

    def connect(self, a: str, b: str) -> None:
        self._number += 1
        self._links[frozenset((a, b))] = self._number
        self._feed(a, PeerConnected(b))
        self._feed(b, PeerConnected(a))

    def mesh(self) -> None:
        names = list(self.nodes)
        for n, a in enumerate(names):
            for b in names[n + 1 :]:
                self.connect(a, b)

    def cut(self, a: str, b: str) -> None:
        if self._links.pop(frozenset((a, b)), None) is not None:
            self._feed(a, PeerDisconnected(b))
            self._feed(b, PeerDisconnected(a))

    def leave(self, name: str) -> None:
        for link in [link for link in self._links if name in link]:
            self.cut(*link)

    def at(self, time: float, action: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._heap, (time, self._number, action))

    def run(self, until: Callable[[], bool], limit: float = 600.0) -> float:
        """Run until the condition holds; fails when ``limit`` virtual seconds pass first."""
        while not until():
            if not self._heap:
                raise LocalError("nothing happens any more")
            self.now, _, action = heapq.heappop(self._heap)
            if self.now > limit:
                raise LocalError(f"not reached in {limit} virtual seconds")
            action()
        return self.now

    def _feed(self, name: str, event: Event) -> None:
        self._carry_out(self.nodes[name], self.nodes[name].swarm.receive(event, self.now))

    def _carry_out(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self._send(node, effect)
                case ReadBlock():
                    self._read(node, effect)
                case VerifyAndWrite():
                    self._verify(node, effect)
                case Disconnect():
                    node.dropped.append(effect)
                    self._sever(node.name, effect.peer)
                case Completed():
                    node.done_at = self.now
        self._arm(node)

    def _arm(self, node: Node) -> None:
        deadline = node.swarm.deadline()
        if deadline is None or (node.armed is not None and node.armed <= deadline):
            return
        node.armed = deadline

        def fire() -> None:
            node.armed = None
            self._carry_out(node, node.swarm.tick(self.now))

        self.at(deadline, fire)

    def _send(self, node: Node, send: Send) -> None:
        link = self._links.get(frozenset((node.name, send.peer)))
        node.free_at = max(node.free_at, self.now) + len(send.data) / node.rate

        def sent() -> None:
            self._if_up(link, node.name, send.peer, node.name, BytesSent(send.peer, len(send.data)))

        def arrived() -> None:
            self._if_up(link, node.name, send.peer, send.peer, BytesReceived(node.name, send.data))

        self.at(node.free_at, sent)
        self.at(node.free_at + self.latency, arrived)

    def _if_up(self, link: int | None, a: str, b: str, to: str, event: Event) -> None:
        if link is not None and self._links.get(frozenset((a, b))) == link:
            self._feed(to, event)

    def _sever(self, a: str, b: str) -> None:
        if self._links.pop(frozenset((a, b)), None) is not None:
            self.at(self.now, lambda: self._feed(b, PeerDisconnected(a)))

    def _read(self, node: Node, read: ReadBlock) -> None:
        data = node.store[read.index][read.begin : read.begin + read.length]
        if node.lies is not None:
            data = node.lies(read, data)
        event = BlockRead(read.peer, read.index, read.begin, data)
        self.at(self.now + 0.0005, lambda: self._feed(node.name, event))

    def _verify(self, node: Node, write: VerifyAndWrite) -> None:
        right = self.content.metainfo.verify_piece(write.index, write.data)
        if right:
            node.store[write.index] = bytes(write.data)
        event = PieceVerified(write.index) if right else PieceFailed(write.index)
        self.at(self.now + 0.001, lambda: self._feed(node.name, event))


@pytest.fixture
def content() -> Callable[..., Content]:
    """``content(*file_sizes, piece_length=…)``: random files, piece-aligned."""
    return _content


@pytest.fixture
def wire() -> Callable[..., Wire]:
    """``wire(content, have=(), wanted=…, config=…)``."""

    def make(content: Content, have: Iterable[int] = (), **options: object) -> Wire:
        return Wire(content, have, options)

    return make


@pytest.fixture
def net() -> Callable[..., Net]:
    """``net(content, latency=…)``."""
    return Net
