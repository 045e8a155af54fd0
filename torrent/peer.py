"""One connection: bytes in, checked messages out; the four choke and interest bits; what is on its way
in each direction. Knows nothing of other peers."""

from __future__ import annotations

from torrent.bitfield import Bitfield
from torrent.config import SwarmConfig
from torrent.errors import ProtocolError
from torrent.geometry import Block, Geometry
from torrent.messages import (
    BitfieldMessage,
    Cancel,
    Choke,
    Decoder,
    Handshake,
    Have,
    Interested,
    KeepAlive,
    Message,
    NotInterested,
    Piece,
    Request,
    Unchoke,
    Unknown,
)
from torrent.pipeline import Pipeline

MAX_CALLED_OFF = 4096


class Session:
    """State of one connection, changed by what the peer says (``feed``) and by what we say (the verbs)."""

    def __init__(
        self, peer: str, info_hash: bytes, peer_id: bytes, geometry: Geometry, config: SwarmConfig, now: float
    ) -> None:
        self.peer = peer
        self._info_hash = info_hash
        self._peer_id = peer_id
        self._geometry = geometry
        self._config = config
        self._decoder = Decoder()
        self._outbox: list[bytes] = []
        self._bitfield_may_come = True
        self._called_off: dict[Block, None] = {}
        self._unsolicited = 0
        self.greeted = False
        self.am_choking = True
        self.am_interested = False
        self.peer_choking = True
        self.peer_interested = False
        self.connected = self.heard = self.spoke = now
        self.pipeline = Pipeline(config, now)
        self.queue: dict[Block, None] = {}
        """Blocks the peer asked for, not yet being read, oldest first."""
        self.reading: set[Block] = set()
        self.reading_bytes = 0
        self.unsent = 0
        """Bytes in the outbox or given out to be sent, not yet reported sent."""
        self._say(Handshake(info_hash, peer_id).encode())

    # --- hearing

    def feed(self, data: bytes, now: float) -> list[Message]:
        """The checked messages that ``data`` completes. Raises ``ProtocolError``: the connection is over
        then.
        """
        self.heard = now
        messages = self._decoder.feed(data)
        for message in messages:
            self._check(message)
        return messages

    def _check(self, message: Message) -> None:
        match message:
            case Handshake():
                self._greet(message)
                return
            case KeepAlive() | Unknown():
                return
            case BitfieldMessage(data):
                if not self._bitfield_may_come:
                    raise ProtocolError("bitfield is not the first message")
                Bitfield.from_bytes(data, self._geometry.piece_count)
            case Have(index):
                if index >= self._geometry.piece_count:
                    raise ProtocolError(f"have of piece {index}")
            case Request(block) | Cancel(block):
                if block.length > self._config.max_block or not self._geometry.contains(block):
                    raise ProtocolError(f"request of {block}")
            case Piece(index, begin, payload):
                if not self._geometry.contains(Block(index, begin, len(payload))):
                    raise ProtocolError(f"data outside piece {index}")
            case Choke() | Unchoke():
                self.peer_choking = isinstance(message, Choke)
            case Interested() | NotInterested():
                self.peer_interested = isinstance(message, Interested)
        self._bitfield_may_come = False

    def _greet(self, hello: Handshake) -> None:
        if hello.info_hash != self._info_hash:
            raise ProtocolError("handshake for another torrent")
        if hello.peer_id == self._peer_id:
            raise ProtocolError("connected to itself")
        self.greeted = True

    def arrived(self, block: Block, now: float) -> None:
        """A block came. Raises ``ProtocolError`` when too many came that were never asked for."""
        if self.pipeline.arrived(block, now):
            return
        if block in self._called_off:
            del self._called_off[block]
            return
        self._unsolicited += 1
        if self._unsolicited > self._config.unsolicited:
            raise ProtocolError("sends blocks that were not asked for")

    # --- speaking

    def interest(self, interested: bool) -> None:
        if interested != self.am_interested:
            self.am_interested = interested
            self._say((Interested() if interested else NotInterested()).encode())

    def choke(self, choke: bool) -> None:
        """A choke drops what the peer has asked for (BEP 3)."""
        self.am_choking = choke
        self._say((Choke() if choke else Unchoke()).encode())
        if choke:
            self.queue.clear()
            self.reading.clear()
            self.reading_bytes = 0

    def bitfield(self, have: Bitfield) -> None:
        if have.mask:
            self._say(BitfieldMessage(have.to_bytes()).encode())

    def have(self, index: int) -> None:
        self._say(Have(index).encode())

    def ask(self, block: Block, now: float) -> None:
        self.pipeline.ask(block, now)
        self._called_off.pop(block, None)
        self._say(Request(block).encode())

    def cancel(self, block: Block) -> None:
        """Call a request off; the block may come all the same."""
        if self.pipeline.outstanding.pop(block, None) is not None:
            self.call_off([block])
            self._say(Cancel(block).encode())

    def call_off(self, blocks: list[Block]) -> None:
        """Remember blocks whose late arrival is no offence."""
        self._called_off.update(dict.fromkeys(blocks))
        while len(self._called_off) > MAX_CALLED_OFF:
            del self._called_off[next(iter(self._called_off))]

    def give(self, block: Block, data: bytes) -> None:
        self._say(Piece(block.piece, block.begin, data).encode())

    def keep_alive(self) -> None:
        self._say(KeepAlive().encode())

    def _say(self, data: bytes) -> None:
        self._outbox.append(data)
        self.unsent += len(data)

    def flush(self, now: float) -> bytes:
        """What there is to send, empty when nothing."""
        if not self._outbox:
            return b""
        self.spoke = now
        data = b"".join(self._outbox)
        self._outbox.clear()
        return data
