"""The state machine of one yamux connection; no IO and no clock in here.

Bytes from the peer go in by `receive`, chunks for the socket come out of `next_chunk`, time goes in by
`tick`. Whatever the peer can do wrong raises `Malformed` from `receive` or `TimedOut` from `tick`; the owner
then sends what is left (a go-away), and calls `end`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf

from p2pml.net.errors import Closed, Malformed
from p2pml.net.yamux import frames
from p2pml.net.yamux.frames import ACK, DATA, FIN, GO_AWAY, NORMAL, PING, RST, SYN, WINDOW_UPDATE
from p2pml.net.yamux.limits import Budget, Limits
from p2pml.net.yamux.liveness import Liveness
from p2pml.net.yamux.stream import StreamState

CHUNK_BYTES = 65519
"""The largest chunk: what fits into one record of the layer below."""
_WORTH_A_FRAME = 1024
_MOST_WINDOW = 1 << 32


class TooManyStreams(Exception):
    """We hold as many streams open as the limits allow: a mistake of this side, not of the peer."""


class Connection:
    """One side of a connection.

    Args:
        dialled: whether we opened the connection; decides the numbers of our streams.
        limits: of this connection.
        budget: shared with the other connections of the host.
        now: seconds on the owner's clock.

    Attributes:
        streams: open streams by number.
        arrived: streams opened by the peer that nobody accepted yet.
        on_output: called when `next_chunk` has something; on_arrived: when `arrived` has.
        peer_leaves: the code of the peer's go-away, None before one.
    """

    def __init__(self, dialled: bool, limits: Limits, budget: Budget, now: float) -> None:
        self.limits = limits
        self.streams: dict[int, StreamState] = {}
        self.arrived: deque[StreamState] = deque()
        self.on_output: Callable[[], None] = lambda: None
        self.on_arrived: Callable[[], None] = lambda: None
        self.peer_leaves: int | None = None
        self.leaving = False
        self.unread = 0
        self._budget = budget
        self._next_id = 1 if dialled else 2
        self._reader = frames.FrameReader()
        self._control: deque[bytes] = deque()
        self._answers = 0  # of the frames in `_control`
        self._sending: deque[StreamState] = deque()  # streams with output, each once
        self._in_turn: set[StreamState] = set()  # the same
        self._waiting: set[StreamState] = set()
        self._queued = 0
        self._body_of: StreamState | None = None
        self._body_flags = 0
        self._overdue_credit = 0  # bytes that may still come for streams that are gone
        self._liveness = Liveness(limits.keepalive, limits.keepalive_timeout, now)
        self._ended = False
        budget.holders.add(self)

    @property
    def rtt(self) -> float:
        """Seconds of the last ping; 0 before the first answer."""
        return self._liveness.rtt

    # Streams

    def open(self) -> StreamState:
        """Open a stream; the peer learns of it with the next chunk.

        Raises:
            Closed: the connection has ended, or one of the sides is leaving.
            TooManyStreams: the limit is reached.
        """
        if self._ended or self.leaving or self.peer_leaves is not None:
            raise Closed("the connection takes no new streams")
        ours = [stream for stream in self.streams.values() if self._is_ours(stream.id)]
        if len(ours) >= self.limits.outbound_streams:
            lingering = min((s for s in ours if s.lingers), key=lambda s: s.idle_since or inf, default=None)
            if lingering is None:
                raise TooManyStreams(f"{len(ours)} streams are open on this connection, the most allowed")
            self.reset(lingering, "it waited for the peer's end of the stream")
        stream = StreamState(self, self._next_id)
        self._next_id += 2
        self.streams[stream.id] = stream
        self._put_control(WINDOW_UPDATE, SYN, stream.id, 0)
        return stream

    def finish(self, stream: StreamState) -> None:
        """End our side of a stream, behind what is queued; the peer's side stays readable."""
        if stream.ended is None and not stream.finishing:
            stream.finishing = True
            self._take_turn(stream)

    def close(self, stream: StreamState) -> None:
        """End our side, and read no more: what the peer still sends is dropped."""
        self.finish(stream)
        if stream.ended is None and not stream.abandoned:
            stream.abandoned = True
            self._drop_unread(stream)
            self._forget_if_over(stream)

    def reset(self, stream: StreamState, reason: str = "the stream was reset on this side") -> None:
        """Break a stream off."""
        if stream.id in self.streams and stream.ended is None:
            self._put_control(WINDOW_UPDATE, RST, stream.id, 0)
        self._end_stream(stream, reason)

    # In

    def receive(self, chunk: bytes, now: float) -> None:
        """Take bytes from the peer, cut in any way.

        Raises:
            Malformed: the peer broke the protocol or a limit. Nothing may be received after it.
        """
        if self._ended:
            return  # what the socket still held must not be kept for anybody
        self._liveness.heard(now)
        for event in self._reader.feed(chunk):
            if isinstance(event, frames.Body):
                self._on_body(event.data, event.last)
            elif event.kind == DATA:
                self._on_data(event)
            elif event.kind == WINDOW_UPDATE:
                self._on_window_update(event)
            elif event.kind == PING:
                self._on_ping(event, now)
            else:
                self.peer_leaves = event.length
        while self.unread > self.limits.connection_unread:
            self.shed()
        if self._budget.room < 0:
            self._budget.balance()

    def _on_data(self, header: frames.Header) -> None:
        stream = self._stream_of(header)
        self._body_of, self._body_flags = stream, header.flags
        if stream is None:
            self._overdue_credit -= header.length
            if self._overdue_credit < 0:
                raise Malformed(f"{header.length} bytes for stream {header.stream}, which is not open")
            return
        stream.recv_window -= header.length
        if stream.recv_window < 0:
            raise Malformed(f"stream {stream.id} overran its window by {-stream.recv_window} bytes")
        if header.length and stream.fin_received:
            raise Malformed(f"bytes after the end of stream {stream.id}")

    def _on_body(self, data: memoryview, last: bool) -> None:
        stream = self._body_of
        if stream is None or stream.ended is not None:
            return
        if data and not stream.abandoned:
            stream.inbox.put(data)
            self.unread += len(data)
            self._budget.used += len(data)
        if last:
            self._on_flags(stream, self._body_flags)
        stream.changed()

    def _on_window_update(self, header: frames.Header) -> None:
        stream = self._stream_of(header)
        if stream is None:
            return
        stream.send_window += header.length
        if stream.send_window >= _MOST_WINDOW:
            raise Malformed(f"stream {stream.id} was granted a window of {stream.send_window} bytes")
        self._on_flags(stream, header.flags)
        stream.changed()

    def _on_ping(self, header: frames.Header, now: float) -> None:
        if header.flags & SYN:
            self._answer(PING, ACK, 0, header.length)
        elif header.flags & ACK:
            self._liveness.answered(header.length, now)

    def _stream_of(self, header: frames.Header) -> StreamState | None:
        """The stream that a frame is for, opened by it if it says so; None when it is gone or refused."""
        stream = self.streams.get(header.stream)
        if not header.flags & SYN:
            return stream
        if stream is not None or self._is_ours(header.stream):
            raise Malformed(f"stream {header.stream} was opened twice, or by the wrong side")
        theirs = sum(not self._is_ours(number) for number in self.streams)
        if max(theirs, len(self.arrived)) >= self.limits.inbound_streams or self.leaving:
            self._answer(WINDOW_UPDATE, RST, header.stream, 0)
            self._overdue_credit += frames.INITIAL_WINDOW
            return None
        stream = self.streams[header.stream] = StreamState(self, header.stream)
        self._answer(WINDOW_UPDATE, ACK, stream.id, 0)
        self.arrived.append(stream)
        self.on_arrived()
        return stream

    def _on_flags(self, stream: StreamState, flags: int) -> None:
        if flags & RST:
            self._end_stream(stream, "the peer reset the stream")
        elif flags & FIN:
            stream.fin_received = True
            self._forget_if_over(stream)

    # Out

    def next_chunk(self) -> bytes | None:
        """Whole frames for the socket, at most `CHUNK_BYTES` bytes; None when there is nothing to send."""
        parts: list[bytes | memoryview] = []
        room = CHUNK_BYTES
        while self._control and room >= frames.HEADER_BYTES:
            parts.append(self._control.popleft())
            room -= frames.HEADER_BYTES
        if not self._control:
            self._answers = 0
        while self._sending and room >= _WORTH_A_FRAME:
            stream = self._sending.popleft()
            self._in_turn.discard(stream)
            before = stream.queued
            frame = stream.next_frame(room)
            if not frame:
                continue
            sent = before - stream.queued
            self._queued -= sent
            self._budget.used -= sent
            room -= frames.HEADER_BYTES + sent
            parts += frame
            if stream.has_output:
                self._take_turn(stream)
            self._forget_if_over(stream)
        self._wake_writers()
        return b"".join(parts) if parts else None

    def outbox_room(self, stream: StreamState) -> int:
        """Bytes that the stream may queue now."""
        room = min(self.limits.stream_outbox - stream.queued, self.limits.connection_outbox - self._queued)
        if self._budget.room >= room:
            return room
        # Over the budget one frame at a time still gets through, or nothing would ever get better.
        return max(self._budget.room, 0 if self._queued else min(room, CHUNK_BYTES))

    def on_queued(self, stream: StreamState, count: int) -> None:
        """`count` bytes of a stream were accepted."""
        self._queued += count
        self._budget.used += count
        self._take_turn(stream)

    def wait_for_room(self, stream: StreamState) -> None:
        """Call the stream's `changed` when the outbox has emptied enough to be worth it."""
        self._waiting.add(stream)

    def on_read(self, stream: StreamState, count: int) -> None:
        """`count` bytes of a stream were read; grants the peer as many when it is worth a frame."""
        self.unread -= count
        self._budget.used -= count
        more = stream.grant_more(self.limits.max_window, self._reserve)
        if more:
            self._put_control(WINDOW_UPDATE, 0, stream.id, more)
        self._forget_if_over(stream)

    def _reserve(self, count: int) -> bool:
        # Wider windows are granted only while all of them, filled and unread, fit under the cap:
        # readers that pause then cost their peers nothing but time.
        windows = sum(frames.INITIAL_WINDOW + stream.granted for stream in self.streams.values())
        return windows + count <= self.limits.connection_unread and self._budget.grant(count)

    def go_away(self, code: int = NORMAL) -> None:
        """Tell the peer that we leave; its new streams are refused from now on."""
        if not self.leaving:
            self.leaving = True
            self._put_control(GO_AWAY, 0, 0, code)

    # Time and end

    def deadline(self, now: float) -> float:
        """When `tick` has something to do next."""
        return self._liveness.deadline(now)

    def tick(self, now: float) -> None:
        """Ping, and give up streams that only linger.

        Raises:
            TimedOut: nothing was heard from the peer for too long after a ping.
        """
        number = self._liveness.tick(now)
        if number is not None:
            self._put_control(PING, SYN, 0, number)
        for stream in list(self.streams.values()):
            self._give_up_lingering(stream, now)

    def shed(self) -> None:
        """Reset the stream with the most unread bytes."""
        stream = max(self.streams.values(), key=lambda each: each.inbox.size)
        self.reset(stream, f"its reader was too slow: {stream.inbox.size} bytes waited for it")

    def end(self, reason: str) -> None:
        """The connection is gone: end every stream, give back what they held."""
        self._ended = True
        for stream in list(self.streams.values()):
            self._end_stream(stream, reason)
        self._budget.holders.discard(self)
        self._control.clear()
        self.arrived.clear()

    def _give_up_lingering(self, stream: StreamState, now: float) -> None:
        if not stream.lingers:
            return
        if stream.idle_since is None:
            stream.idle_since = now
        elif now - stream.idle_since >= self.limits.linger:
            self.reset(stream, "nobody ended or read the stream in time")

    def _forget_if_over(self, stream: StreamState) -> None:
        if stream.fin_sent and stream.fin_received and not stream.inbox.size:
            self._remove(stream)

    def _end_stream(self, stream: StreamState, reason: str) -> None:
        if stream.ended is not None:
            return
        dropped = stream.end(reason)
        self._queued -= dropped
        self._budget.used -= dropped
        self._drop_unread(stream)
        self._remove(stream)
        stream.changed()

    def _remove(self, stream: StreamState) -> None:
        if self.streams.pop(stream.id, None) is not None:
            self._overdue_credit += stream.recv_window
            self._budget.granted -= stream.granted
            self._waiting.discard(stream)

    def _drop_unread(self, stream: StreamState) -> None:
        dropped = stream.inbox.clear()
        self.unread -= dropped
        self._budget.used -= dropped

    def _wake_writers(self) -> None:
        if self._waiting and self._queued <= self.limits.connection_outbox // 2:
            half = self.limits.stream_outbox // 2
            for stream in [each for each in self._waiting if each.queued <= half]:
                self._waiting.discard(stream)
                stream.changed()

    def _take_turn(self, stream: StreamState) -> None:
        if stream not in self._in_turn:
            self._in_turn.add(stream)
            self._sending.append(stream)
        self.on_output()

    def _answer(self, kind: int, flags: int, stream: int, length: int) -> None:
        self._answers += 1
        if self._answers > self.limits.answers:
            raise Malformed("the peer asks faster than it takes the answers")
        self._put_control(kind, flags, stream, length)

    def _put_control(self, kind: int, flags: int, stream: int, length: int) -> None:
        self._control.append(frames.encode(kind, flags, stream, length))
        self.on_output()

    def _is_ours(self, stream_id: int) -> bool:
        return stream_id & 1 == self._next_id & 1
