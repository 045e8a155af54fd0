"""The extensions of the BitTorrent wire, and a whole peer that hears anything after such a handshake."""

from __future__ import annotations

import random

from tests.fuzz.runner import Feed, Target, decoder
from tests.fuzz.torrent_targets import BENCODE_TOKENS, WIRE_TOKENS
from torrent.errors import ProtocolError
from torrent.events import (
    BlockRead,
    BytesReceived,
    BytesSent,
    Disconnect,
    Effect,
    PeerConnected,
    PieceFailed,
    PieceVerified,
    ReadBlock,
    Send,
    VerifyAndWrite,
)
from torrent.extended import MAX_CLIENT, UT_METADATA, Terms
from torrent.geometry import BLOCK, Block
from torrent.hashing import PieceHasher
from torrent.messages import (
    AllowedFast,
    Cancel,
    Choke,
    Extended,
    Handshake,
    Have,
    HaveAll,
    HaveNone,
    Interested,
    Message,
    Piece,
    Reject,
    Request,
    Suggest,
    Unchoke,
    reserved_bytes,
)
from torrent.metadata import DATA, REJECT, REQUEST, MetadataMessage
from torrent.metadata_fetch import MetadataFetch
from torrent.metainfo import create, plan
from torrent.swarm import Swarm

TERMS_TOKENS = (
    *BENCODE_TOKENS,
    *(b"1:m", b"11:ut_metadata", b"4:reqq", b"13:metadata_size", b"11:upload_only", b"1:v"),
    *(b"i255e", b"i256e", b"1:md1:ai1ee", b"11:p2pml_blocki131072e"),
)


def terms(data: bytes) -> None:
    heard = Terms().updated(data)
    assert Terms().updated(heard.encode()) == heard
    assert len(heard.client) <= MAX_CLIENT
    assert set(heard.ids) <= {UT_METADATA}


_DATA = random.Random(3).randbytes(6 * BLOCK + 100)
_PIECE = 2 * BLOCK
_FILES = plan([(("data",), len(_DATA))], _PIECE)
_HASHER = PieceHasher(_PIECE)
_HASHER.update(_DATA)
METAINFO = create("data", _FILES, _PIECE, _HASHER.finish(), single_file=True)
HELLO = Handshake(METAINFO.info_hash, b"-XX0000-" + bytes(12), reserved_bytes(fast=True, extended=True))


class _Gone(ProtocolError):
    """The swarm has disconnected the peer that is fed."""


class _Peer:
    """A swarm with half of the pieces, a disk that answers at once, and the peer ``a`` that is fed; another
    one, ``b``, has said hello and waits.
    """

    def __init__(self) -> None:
        self.swarm = Swarm(METAINFO, [0, 1], rng=random.Random(1))
        self.now = 0.0
        for peer in "ba":
            self._carry_out(self.swarm.receive(PeerConnected(peer, "192.0.2.7"), self.now))
            self._hear(peer, HELLO.encode())
        self._hear("b", HaveAll().encode() + Interested().encode())

    def feed(self, data: bytes) -> None:
        self._hear("a", data)
        assert "b" in self.swarm.peers
        if "a" not in self.swarm.peers:
            raise _Gone("disconnected")

    def _hear(self, peer: str, data: bytes) -> None:
        self._carry_out(self.swarm.receive(BytesReceived(peer, data), self.now))

    def _carry_out(self, effects: list[Effect]) -> None:
        while effects:
            effect = effects.pop(0)
            match effect:
                case Send(peer, data):
                    effects += self.swarm.receive(BytesSent(peer, len(data)), self.now)
                case ReadBlock(peer, index, begin, length):
                    at = index * _PIECE + begin
                    read = BlockRead(peer, index, begin, _DATA[at : at + length])
                    effects += self.swarm.receive(read, self.now)
                case VerifyAndWrite(index, data):
                    right = METAINFO.verify_piece(index, data)
                    effects += self.swarm.receive((PieceVerified if right else PieceFailed)(index), self.now)
                case Disconnect(peer):
                    assert peer == "a"
                case _:
                    pass


def peer() -> Feed:
    return _Peer().feed


def _said(*messages: Message) -> bytes:
    return b"".join(message.encode() for message in messages if not isinstance(message, Handshake))


_TERMS = Terms({UT_METADATA: 2}, reqq=20, metadata_size=700, client="other 1.0", largest_block=4 * BLOCK)
CHAT = (
    _said(HaveAll(), Extended(0, _TERMS.encode()), Unchoke(), Choke(), Suggest(1), AllowedFast(2), Unchoke()),
    _said(HaveNone(), Interested(), Request(Block(0, 0, BLOCK)), Cancel(Block(0, 0, BLOCK)), Have(3)),
    _said(Extended(0, b"d11:upload_onlyi1ee"), HaveNone(), Request(Block(1, 0, 100)), Extended(9, b"x")),
    _said(HaveAll(), AllowedFast(2), Reject(Block(2, 0, BLOCK)), Reject(Block(2, BLOCK, BLOCK))),
    _said(Extended(0, _TERMS.encode()), Extended(1, b"d8:msg_typei0e5:piecei0ee"), HaveAll()),
    _said(HaveAll(), AllowedFast(2), Piece(2, 0, _DATA[4 * BLOCK : 5 * BLOCK])),
)


def metadata_message(data: bytes) -> None:
    message = MetadataMessage.decode(data)
    if message is not None:
        assert MetadataMessage.decode(message.encode()) == message
        assert len(message.data) <= BLOCK


INFO = bytes(METAINFO.raw_info)


def source() -> Feed:
    """A fetch of the info dictionary, and one peer of it that has shaken hands."""
    fetch = MetadataFetch(METAINFO.info_hash, rng=random.Random(1), client=b"-PM0010-")
    fetch.receive(PeerConnected("a"), 0.0)
    fetch.receive(BytesReceived("a", HELLO.encode()), 0.0)

    def feed(data: bytes) -> None:
        fetch.receive(BytesReceived("a", data), 0.0)
        assert fetch.found in (None, INFO)
        if fetch.found is None and not fetch.peers:
            raise _Gone("disconnected")

    return feed


_METADATA = (
    MetadataMessage(REQUEST, 0).encode(),
    MetadataMessage(DATA, 0, INFO, len(INFO)).encode(),
    MetadataMessage(REJECT, 3).encode(),
)
_TOLD = Extended(0, Terms({UT_METADATA: 2}, metadata_size=len(INFO)).encode())

TARGETS = (
    decoder(
        "metadata messages",
        metadata_message,
        ProtocolError,
        _METADATA,
        tokens=(*BENCODE_TOKENS, b"8:msg_type", b"5:piece", b"10:total_size"),
    ),
    Target(
        "a source of metadata",
        source,
        (
            _said(HaveAll(), _TOLD, Extended(1, _METADATA[1])),
            _said(_TOLD, Extended(1, _METADATA[0]), Have(3), Unchoke()),
        ),
        ProtocolError,  # not in parts: what follows the last part counts in the same read only
        tokens=(*WIRE_TOKENS, *TERMS_TOKENS),
        runs=1500,
    ),
    decoder(
        "extended handshakes",
        terms,
        ProtocolError,
        [_TERMS.encode(), b"de", b"d1:md6:ut_pexi1ee1:pi6881e6:yourip4:\x7f\0\0\x01e"],
        tokens=TERMS_TOKENS,
    ),
    Target(
        "a peer after the handshakes",
        peer,
        CHAT,
        ProtocolError,
        tokens=(*WIRE_TOKENS, *(bytes([0, 0, 0, 2, 20]), *TERMS_TOKENS[:4])),
        runs=1500,
    ),
)
