"""One connection: bytes in, checked messages out; the four choke and interest bits; what is on its way
in each direction; what both sides' extensions make of it. Knows nothing of other peers."""

from __future__ import annotations

from collections.abc import Sequence

from torrent.bitfield import Bitfield
from torrent.config import SwarmConfig
from torrent.errors import ProtocolError
from torrent.extended import HANDSHAKE, Terms
from torrent.geometry import BLOCK, Block, Geometry, joined, units
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
    Message,
    NotInterested,
    Piece,
    Reject,
    Request,
    Suggest,
    Unchoke,
    Unknown,
    reserved_bytes,
)
from torrent.pipeline import Pipeline

MAX_CALLED_OFF = 4096
WINDOW_PARTS = 4
"""Blocks in flight are spread over so many requests at least, or a slow link would idle between two."""
MAX_ALLOWED = 64
"""Pieces that a peer may allow us while it chokes us; more are not kept."""


class Session:
    """State of one connection, changed by what the peer says (``feed``) and by what we say (the verbs).

    ``ipv4``: the peer's address, where it has one.
    """

    def __init__(
        self,
        peer: str,
        info_hash: bytes,
        peer_id: bytes,
        geometry: Geometry,
        config: SwarmConfig,
        now: float,
        ipv4: str | None = None,
    ) -> None:
        self.peer = peer
        self.ipv4 = ipv4
        self._info_hash = info_hash
        self._peer_id = peer_id
        self._geometry = geometry
        self._config = config
        self._decoder = Decoder()
        self._outbox: list[bytes] = []
        self._opening_may_come = True
        self._called_off: dict[Block, int] = {}
        self._forgotten = 0
        self._joined: dict[Block, Block] = {}
        """For each block in flight that was asked for together with its neighbours, that request."""
        self._unsolicited = 0
        self.greeted = False
        self.fast = False
        """Both sides speak the fast extension: each request is answered, by its block or by a reject."""
        self.extended = False
        """Both sides speak the extension protocol."""
        self.theirs = Terms()
        """What the peer said in its extended handshakes."""
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
        self.granted: frozenset[int] = frozenset()
        """Pieces that the peer may ask for while we choke it."""
        self.allowed = 0
        """Mask of the pieces that we may ask for while the peer chokes us."""
        self.refused = 0
        """Mask of the pieces of which the peer, not choking, has rejected a block: left alone for a while."""
        self.refused_at = now
        self.metadata_given = 0
        """Bytes of the info dictionary that the peer asked for."""
        self.unsent = 0
        """Bytes in the outbox or given out to be sent, not yet reported sent."""
        reserved = reserved_bytes(fast=config.fast, extended=config.extended)
        self._say(Handshake(info_hash, peer_id, reserved).encode())

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
            case Extended():
                self._hear_terms(message)
                return  # clients differ in whether their terms or their pieces come first
            case BitfieldMessage() | HaveAll() | HaveNone():
                self._check_opening(message)
            case Have(index):
                self._check_index(index, "have")
            case Request(block) | Cancel(block):
                self._check_block(block, "request")
            case Piece(index, begin, payload):
                if not self._geometry.contains(Block(index, begin, len(payload))):
                    raise ProtocolError(f"data outside piece {index}")
            case Choke() | Unchoke():
                self.peer_choking = isinstance(message, Choke)
            case Interested() | NotInterested():
                self.peer_interested = isinstance(message, Interested)
            case Suggest(index):
                self._check_fast("suggest")
                self._check_index(index, "suggest")
            case Reject(block):
                self._check_fast("reject")
                self._check_block(block, "reject")
            case AllowedFast(index):
                self._check_fast("allowed fast")
                self._check_index(index, "allowed fast")
                if self.allowed.bit_count() < MAX_ALLOWED:
                    self.allowed |= 1 << index
        self._opening_may_come = False

    def _greet(self, hello: Handshake) -> None:
        if hello.info_hash != self._info_hash:
            raise ProtocolError("handshake for another torrent")
        if hello.peer_id == self._peer_id:
            raise ProtocolError("connected to itself")
        self.fast = self._config.fast and hello.fast
        self.extended = self._config.extended and hello.extended
        self.greeted = True

    def _hear_terms(self, message: Extended) -> None:
        if not self.extended:
            raise ProtocolError("extended message without the extension protocol")
        if message.number == HANDSHAKE:
            self.theirs = self.theirs.updated(message.payload)
            if self.theirs.reqq is not None:
                self.pipeline.limit(self.theirs.reqq)

    def _check_opening(self, message: BitfieldMessage | HaveAll | HaveNone) -> None:
        if isinstance(message, BitfieldMessage):
            Bitfield.from_bytes(message.data, self._geometry.piece_count)
        else:
            self._check_fast("have all or none")
        if not self._opening_may_come:
            raise ProtocolError("bitfield is not the first message")

    def _check_fast(self, name: str) -> None:
        if not self.fast:
            raise ProtocolError(f"{name} without the fast extension")

    def _check_index(self, index: int, name: str) -> None:
        if index >= self._geometry.piece_count:
            raise ProtocolError(f"{name} of piece {index}")

    def _check_block(self, block: Block, name: str) -> None:
        if block.length > self._config.max_block or not self._geometry.contains(block):
            raise ProtocolError(f"{name} of {block}")

    def arrived(self, blocks: Sequence[Block], now: float) -> None:
        """Blocks came in one message. Raises ``ProtocolError`` when one of them was never asked for; old
        peers may err a bit.
        """
        for block in blocks:
            self._joined.pop(block, None)
        for block in self.pipeline.arrived(blocks, now):
            if not self._was_called_off(block):
                self._unasked()

    def _unasked(self) -> None:
        self._unsolicited += 1
        # what is due is exact with BEP 6 only
        if self.fast or self._unsolicited > self._config.unsolicited:
            raise ProtocolError("sends blocks that were not asked for")

    def rejected(self, block: Block, now: float) -> bool:
        """The peer rejects a request; whether that was still waited for. Raises ``ProtocolError`` when there
        was none.
        """
        if self._was_called_off(block):
            return False
        if self.pipeline.outstanding.pop(block, None) is None:
            raise ProtocolError("rejects what it was not asked for")
        self._joined.pop(block, None)
        if self.peer_choking:
            self.allowed &= ~(1 << block.piece)
        else:
            self.refused |= 1 << block.piece
            self.refused_at = now
        return True

    def _was_called_off(self, block: Block) -> bool:
        """Whether an answer for a request that we gave up was due; it is not any more then."""
        if count := self._called_off.pop(block, 0):
            if count > 1:
                self._called_off[block] = count - 1
            return True
        if self._forgotten:
            self._forgotten -= 1
            return True
        return False

    @property
    def askable(self) -> int:
        """Mask of the pieces that the peer may be asked for now; -1 for all."""
        return (self.allowed if self.peer_choking else -1) & ~self.refused

    # --- speaking

    def open(self, have: Bitfield, terms: Terms) -> None:
        """Say, after both handshakes, what is here and our terms."""
        if self.fast and have.complete:
            self._say(HaveAll().encode())
        elif self.fast and not have.mask:
            self._say(HaveNone().encode())
        elif have.mask:
            self._say(BitfieldMessage(have.to_bytes()).encode())
        self.tell(terms)

    def tell(self, terms: Terms) -> None:
        """Our terms, or that they changed."""
        if self.extended:
            self.extend(HANDSHAKE, terms.encode())

    def extend(self, number: int, payload: bytes) -> None:
        """A message of an extension, by the peer's number for it."""
        self._say(Extended(number, payload).encode())

    def interest(self, interested: bool) -> None:
        if interested != self.am_interested:
            self.am_interested = interested
            self._say((Interested() if interested else NotInterested()).encode())

    def choke(self, choke: bool) -> None:
        """A choke drops what the peer has asked for: in silence (BEP 3), or rejecting all but what it may
        have while choked (BEP 6).
        """
        self.am_choking = choke
        self._say((Choke() if choke else Unchoke()).encode())
        if not choke:
            return
        for block in dict.fromkeys([*sorted(self.reading), *self.queue]):
            if not self.fast or block.piece not in self.granted:
                self.queue.pop(block, None)
                self.unread(block)
                self.reject(block)

    def unread(self, block: Block) -> bool:
        """The block is not being read for the peer any more; whether it was."""
        if block not in self.reading:
            return False
        self.reading.discard(block)
        self.reading_bytes -= block.length
        return True

    def reject(self, block: Block) -> None:
        """Tell a peer that can hear it that its request will not be answered."""
        if self.fast:
            self._say(Reject(block).encode())

    def grant(self, pieces: list[int]) -> None:
        """Allow the peer to ask for these while we choke it."""
        self.granted = frozenset(pieces)
        for index in pieces:
            self._say(AllowedFast(index).encode())

    def have(self, index: int) -> None:
        if self.greeted:  # else the opening will tell
            self._say(Have(index).encode())

    def ask(self, blocks: list[Block], now: float) -> None:
        """Ask for these; neighbours together, where the peer serves larger blocks."""
        largest = min(self.theirs.largest_block or BLOCK, self._config.max_block)
        for request in joined(blocks, min(largest // BLOCK, self.pipeline.depth // WINDOW_PARTS)):
            for block in units(request):
                if not self.fast:  # there, one answer may do for two requests; with BEP 6 each has its own
                    self._called_off.pop(block, None)
                elif block in self.pipeline.outstanding:  # its piece was begun anew meanwhile
                    self.call_off([block])
                self.pipeline.ask(block, now)
                if request != block:
                    self._joined[block] = request
            self._say(Request(request).encode())

    def cancel(self, block: Block) -> None:
        """Call a request off, once none of its blocks is needed; they may come all the same."""
        if self.pipeline.outstanding.pop(block, None) is None:
            return
        request = self._joined.get(block, block)
        self.call_off([block])
        if not any(self._joined.get(other) == request for other in units(request)):
            self._say(Cancel(request).encode())

    def call_off(self, blocks: list[Block]) -> None:
        """Remember blocks whose late arrival is no offence."""
        for block in blocks:
            self._joined.pop(block, None)
            self._called_off[block] = self._called_off.get(block, 0) + 1
        while len(self._called_off) > MAX_CALLED_OFF:
            self._forgotten += self._called_off.pop(next(iter(self._called_off)))

    def give(self, block: Block, data: bytes) -> None:
        self._say(Piece.head(block))
        self._say(data)  # as it is: what is sent is put together once, in `flush`

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
