"""The receiving half of a swarm: keep requests in flight, put blocks together, judge who sent what."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from torrent.bitfield import Bitfield
from torrent.blame import Blame
from torrent.budget import Budget
from torrent.config import SwarmConfig
from torrent.events import Completed, Credit, Effect, Halted, VerifyAndWrite
from torrent.geometry import Block, Geometry, units
from torrent.messages import Piece
from torrent.peer import Session
from torrent.picker import Picker


class Downloader:
    """``sessions`` belongs to the swarm and is only looked at; ``emit`` takes effects."""

    def __init__(
        self,
        geometry: Geometry,
        have: Bitfield,
        priorities: bytes,
        sessions: Mapping[str, Session],
        config: SwarmConfig,
        rng: random.Random,
        emit: Callable[[Effect], None],
        budget: Budget | None,
    ) -> None:
        self._sessions = sessions
        self._config = config
        self._emit = emit
        self._blame = Blame()
        self._halted = False
        self.picker = Picker(geometry, have.mask, priorities, config, rng, budget)
        self.sources: dict[str, int] = {}
        self.wasted = 0
        self._was_complete = self.complete

    @property
    def complete(self) -> bool:
        return self.picker.complete

    # --- what peers tell

    def learn(self, session: Session, mask: int, now: float) -> None:
        self.picker.learn(session.peer, mask)
        self._review(session)
        self.fill(session, now)

    def learn_one(self, session: Session, index: int, now: float) -> None:
        self.picker.learn_one(session.peer, index)
        self._review(session)
        self.fill(session, now)

    def choked(self, session: Session, now: float) -> None:
        """The peer drops our requests: an old one in silence, so that others may be asked at once; with the
        fast extension each is still answered.
        """
        if session.fast:
            self.picker.part(session.peer)
        elif self._release(session):
            self.fill_all(now)

    def unchoked(self, session: Session, now: float) -> None:
        session.refused = 0
        self.fill(session, now)

    def rejected(self, session: Session, block: Block, now: float) -> None:
        """The peer will not send a block; others may be asked at once. Raises ``ProtocolError`` when it was
        not asked.
        """
        freed = [unit for unit in units(block) if session.rejected(unit, now)]
        for unit in freed:
            self.picker.release(session.peer, unit)
        if freed:
            self.fill_all(now)

    def leave(self, session: Session, now: float) -> None:
        """The session is no longer among ``sessions``."""
        self._release(session)
        self.picker.leave(session.peer)
        self.fill_all(now)

    def block(self, session: Session, message: Piece, now: float) -> int:
        """A block came, or neighbours in one message; returns how many of the bytes were needed. Raises
        ``ProtocolError``.
        """
        block = Block(message.index, message.begin, len(message.data))
        session.arrived(units(block), now)
        accepted = self.picker.accept(session.peer, block, message.data)
        self.wasted += block.length - accepted.needed
        for peer, unit in accepted.others:
            if (other := self._sessions.get(peer)) is not None:
                other.cancel(unit)
                self.fill(other, now)
        if accepted.complete is not None:
            self._emit(VerifyAndWrite(block.piece, accepted.complete.data))
        self.fill(session, now)
        return accepted.needed

    # --- asking

    def fill(self, session: Session, now: float) -> None:
        """Ask for as much as the peer's pipeline has room for."""
        pipeline = session.pipeline
        within = session.askable
        if not within or not session.am_interested or self._halted:
            return
        # a little hysteresis: many small writes cost more than a slightly shorter queue
        if pipeline.room < max(1, pipeline.depth // 4):
            return
        if blocks := self.picker.pick(session.peer, pipeline.room, within):
            session.ask(blocks, now)
            return
        room = min(pipeline.room, self._config.endgame_depth - len(pipeline.outstanding))
        for block in self.picker.pick_again(session.peer, room, within):
            session.ask([block], now)  # one by one: most of them will be cancelled, each at its own time

    def fill_all(self, now: float) -> None:
        # what a snubbing peer has just lost must not go back to it while another could send it
        for session in sorted(self._sessions.values(), key=lambda session: session.pipeline.snubbed):
            self.fill(session, now)

    def tick(self, session: Session, now: float) -> bool:
        """Look after one peer's requests; whether it has just been found to be stalled."""
        pipeline = session.pipeline
        pipeline.tick(now)
        if now - session.refused_at >= self._config.refusal:
            session.refused = 0
        stalled = pipeline.stalled(now)
        if stalled:
            pipeline.snub()
            self._release(session)
        elif skipped := pipeline.skipped(now):
            session.call_off(skipped)
            for block in skipped:
                self.picker.release(session.peer, block)
        return stalled

    def _release(self, session: Session) -> bool:
        blocks = session.pipeline.drain()
        session.call_off(blocks)
        for block in blocks:
            self.picker.release(session.peer, block)
        self.picker.part(session.peer)
        return bool(blocks)

    def _review(self, session: Session) -> None:
        session.interest(self.picker.interesting(session.peer))

    # --- what the store tells

    def verified(self, index: int, now: float) -> set[str]:
        """Returns peers that are now known to have sent false blocks of this piece earlier."""
        piece = self.picker.verified(index)
        liars: set[str] = set()
        if piece is None:
            self._blame.forget(index)
        elif not piece.left:
            for sender, data in piece.received():
                self.sources[sender] = self.sources.get(sender, 0) + len(data)
                self._emit(Credit(sender, len(data)))
            liars = self._blame.verified(piece)
        self._call_off({index})
        self._changed(now)
        return liars

    def failed(self, index: int, now: float) -> set[str]:
        """Returns the peers that certainly sent false data."""
        piece = self.picker.failed(index)
        if piece is None:
            return set()
        self.wasted += piece.size
        culprits = self._blame.failed(piece)
        self._isolate(piece.sources())
        self.fill_all(now)
        return culprits

    def _isolate(self, peers: set[str]) -> None:
        """Those of ``peers`` on parole give no more blocks to pieces that others have a part in."""
        for peer, own in self.picker.on_parole(peers).items():
            if (session := self._sessions.get(peer)) is not None:
                for block in [b for b in session.pipeline.outstanding if b.piece not in own]:
                    session.cancel(block)
                    self.picker.release(peer, block)

    def unstored(self, index: int, reason: str) -> None:
        """A disk error: nobody is blamed, and nothing more is asked for until ``resume``."""
        self.picker.unstored(index)
        if not self._halted:
            self._halted = True
            self._emit(Halted(reason))

    def resume(self, now: float) -> None:
        self._halted = False
        self.fill_all(now)

    def lost(self, index: int, now: float) -> None:
        self.picker.lost(index)
        self._changed(now)

    def set_priorities(self, priorities: bytes, now: float) -> None:
        self._call_off(self.picker.set_priorities(priorities))
        self._changed(now)

    def _call_off(self, pieces: set[int]) -> None:
        """Cancel what is in flight of pieces that are not needed any more."""
        if not pieces:
            return
        for session in self._sessions.values():
            for block in [b for b in session.pipeline.outstanding if b.piece in pieces]:
                session.cancel(block)

    def _changed(self, now: float) -> None:
        """What is missing has changed."""
        for session in self._sessions.values():
            self._review(session)
        complete = self.complete
        if complete and not self._was_complete:
            self._emit(Completed())
        self._was_complete = complete
        self.fill_all(now)
