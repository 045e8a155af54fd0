"""The frame codec: the same frames come out, however the bytes were cut."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from p2pml.net.yamux import frames
from p2pml.net.yamux.frames import DATA
from p2pml.net.yamux.frames import encode as frame


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 15), st.integers(1, 9), st.binary(max_size=40))))
def test_frames_are_the_same_whole_and_byte_by_byte(parts: list[tuple[int, int, int, bytes]]) -> None:
    wire, expected = b"", []
    for kind, flags, stream, body in parts:
        wire += frame(kind, flags, stream, len(body)) + (body if kind == DATA else b"")
        expected.append((frames.Header(kind, flags, stream, len(body)), body if kind == DATA else b""))
    for step in (1, 7, len(wire) or 1):
        reader = frames.FrameReader()
        pieces = [wire[i : i + step] for i in range(0, len(wire), step)]
        assert list(_joined(event for piece in pieces for event in reader.feed(piece))) == expected


def _joined(events: Iterator[frames.Header | frames.Body]) -> Iterator[tuple[frames.Header, bytes]]:
    for event in events:
        assert isinstance(event, frames.Header)
        body = bytearray()
        while event.kind == DATA:
            part = next(events)
            assert isinstance(part, frames.Body)
            body += part.data
            if part.last:
                break
        yield event, bytes(body)
