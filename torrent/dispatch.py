"""What each message of a peer means to the two halves of a swarm and to the choker."""

from __future__ import annotations

from torrent import extended
from torrent.bitfield import Bitfield
from torrent.choker import Choker
from torrent.download import Downloader
from torrent.messages import (
    AllowedFast,
    BitfieldMessage,
    Cancel,
    Choke,
    Extended,
    Have,
    HaveAll,
    HaveNone,
    Interested,
    Message,
    NotInterested,
    Piece,
    Reject,
    Request,
    Unchoke,
)
from torrent.metadata import MetadataServer
from torrent.peer import Session
from torrent.upload import Uploader


class Dispatch:
    """``piece_count``: of the torrent; ``metadata`` gives its info dictionary away."""

    def __init__(
        self,
        down: Downloader,
        up: Uploader,
        choker: Choker,
        metadata: MetadataServer,
        piece_count: int,
    ) -> None:
        self._down = down
        self._up = up
        self._choker = choker
        self._metadata = metadata
        self._piece_count = piece_count

    def message(self, session: Session, message: Message, now: float) -> None:
        """One message that ``session`` has checked. Raises ``ProtocolError``."""
        match message:
            case Piece():
                needed = self._down.block(session, message, now)
                self._choker.gave(session.peer, needed, now)
            case Request(block):
                self._up.request(session, block, now)
            case Cancel(block):
                self._up.cancel(session, block, now)
            case Have(index):
                self._down.learn_one(session, index, now)
            case BitfieldMessage() | HaveAll() | HaveNone():
                self._opening(session, message, now)
            case Choke():
                self._down.choked(session, now)
            case Unchoke():
                self._down.unchoked(session, now)
            case Interested() | NotInterested() | Extended(number=extended.HANDSHAKE):
                # who says that it fetches nothing is offered nothing
                interested = session.peer_interested and not session.theirs.upload_only
                self._choker.interest(session.peer, interested)
            case Extended(number, payload):
                if number in self._metadata.numbers.values():
                    self._metadata.heard(session, payload)
            case Reject(block):
                self._down.rejected(session, block, now)
            case AllowedFast():
                self._down.fill(session, now)
            case _:
                pass  # suggestions too: rarest first knows better

    def _opening(self, session: Session, message: BitfieldMessage | HaveAll | HaveNone, now: float) -> None:
        """What a peer has when it comes."""
        if isinstance(message, BitfieldMessage):
            pieces = Bitfield.from_bytes(message.data, self._piece_count)
        elif isinstance(message, HaveAll):
            pieces = Bitfield.full(self._piece_count)
        else:
            pieces = Bitfield(self._piece_count)
        self._down.learn(session, pieces.mask, now)
        self._up.welcome(session, pieces.count)
