"""The giving half of a swarm: queues of requests, reads in bounded number, what the choker decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from torrent.choker import Choker, Verdict
from torrent.config import SwarmConfig
from torrent.errors import ProtocolError
from torrent.events import Effect, ReadBlock
from torrent.fast import Grants
from torrent.geometry import Block
from torrent.peer import Session


class Uploader:
    """``present`` tells whether a piece can be read; ``sessions`` belongs to the swarm; ``grants`` are
    what peers may have while choked; ``emit`` takes effects.
    """

    def __init__(
        self,
        present: Callable[[int], bool],
        sessions: Mapping[str, Session],
        choker: Choker,
        grants: Grants,
        config: SwarmConfig,
        emit: Callable[[Effect], None],
    ) -> None:
        self._present = present
        self._sessions = sessions
        self._choker = choker
        self._grants = grants
        self._config = config
        self._emit = emit
        self.served: dict[str, int] = {}

    def welcome(self, session: Session, pieces: int) -> None:
        """A peer has told how many ``pieces`` it has: a newcomer may have some while it is choked."""
        if session.fast and session.ipv4 is not None and pieces < self._config.allowed_fast:
            session.grant([index for index in self._grants.pieces(session.ipv4) if self._present(index)])

    def request(self, session: Session, block: Block, now: float) -> None:
        """Raises ``ProtocolError`` when the peer floods."""
        # a request that crossed our choke, or one for a piece that was lost on disk, is nobody's fault
        if not self._present(block.piece) or (session.am_choking and not self._granted(session, block)):
            session.reject(block)
            return
        if session.fast and (block in session.queue or block in session.reading):
            session.reject(block)  # the first one is answered by the block, and each has its own answer
            return
        if len(session.queue) >= self._config.max_requests:
            raise ProtocolError("too many requests queued")
        session.queue[block] = None
        self.pump(session, now)

    def cancel(self, session: Session, block: Block, now: float) -> None:
        queued = block in session.queue
        session.queue.pop(block, None)
        if session.unread(block) or queued:
            session.reject(block)
        self.pump(session, now)

    def read(self, session: Session, block: Block, data: bytes, now: float) -> None:
        """The store has read a block."""
        if not session.unread(block):
            return
        session.give(block, data)
        self._choker.took(session.peer, len(data), now)
        self.served[session.peer] = self.served.get(session.peer, 0) + len(data)
        self.pump(session, now)

    def unreadable(self, session: Session, block: Block, now: float) -> None:
        """The store could not read a block: a reject, or the peer's own time-out, will send it elsewhere."""
        if session.unread(block):
            session.reject(block)
        self.pump(session, now)

    def sent(self, session: Session, count: int, now: float) -> None:
        session.unsent = max(0, session.unsent - count)
        self.pump(session, now)

    def pump(self, session: Session, now: float) -> None:
        """Read as far ahead as the peer takes what we send."""
        if not session.queue:
            return
        config = self._config
        ahead = self._choker.rates(session.peer, now)[1] * config.send_time
        limit = max(config.send_buffer, min(ahead, config.max_send_buffer))
        while session.queue and session.unsent + session.reading_bytes < limit:
            block = next(iter(session.queue))
            del session.queue[block]
            if block not in session.reading:
                session.reading.add(block)
                session.reading_bytes += block.length
                self._emit(ReadBlock(session.peer, block.piece, block.begin, block.length))

    def carry_out(self, verdicts: Iterable[Verdict]) -> None:
        for verdict in verdicts:
            if (session := self._sessions.get(verdict.peer)) is not None:
                session.choke(verdict.choke)

    def _granted(self, session: Session, block: Block) -> bool:
        return (
            session.ipv4 is not None
            and block.piece in session.granted
            and self._grants.spend(session.ipv4, block.length)
        )
