"""One link of a swarm: what it takes of the room that all links share, and whom it says it leads to."""

from __future__ import annotations

import trio
import trio.testing

from p2pml.net.piece_link import Link
from torrent import events


class Pipe:
    """A stream to a peer, whose other end the test holds."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self._ours, self.theirs = trio.testing.memory_stream_pair()

    async def read_some(self) -> bytes:
        return bytes(await self._ours.receive_some(1000))

    async def write(self, data: bytes) -> None:
        await self._ours.send_all(data)

    async def reset(self) -> None:
        await self._ours.aclose()


async def test_a_silent_peer_takes_no_room_and_unread_data_is_bounded(autojump_clock: object) -> None:
    room, heard = trio.Semaphore(2), []

    def post(link: Link, event: events.Event) -> None:
        heard.append(event)

    silent, loud = Pipe("silent"), Pipe("loud")
    async with trio.open_nursery() as nursery:
        for pipe in (silent, Pipe("silent too"), Pipe("and this one"), loud):
            nursery.start_soon(Link(pipe, False, post, room).run)
        for _ in range(5):
            await loud.theirs.send_all(b"x")
            await trio.testing.wait_all_tasks_blocked()
        assert [event.data for event in heard] == [b"x", b"x"]  # nobody has given room back
        room.release()
        await trio.testing.wait_all_tasks_blocked()
        assert [event.data for event in heard] == [b"x", b"x", b"x"]
        nursery.cancel_scope.cancel()


async def test_the_peer_id_is_known_once_the_whole_handshake_came() -> None:
    link = Link(Pipe("p"), True, lambda link, event: None, trio.Semaphore(1))
    hello = b"\x13BitTorrent protocol" + bytes(8) + bytes(20) + b"-LT2110-abcdefghijkl"
    link.greeted(hello[:60])
    assert link.remote_id == b""
    link.greeted(hello[60:] + b"more")
    assert link.remote_id == b"-LT2110-abcdefghijkl"
    link.greeted(b"and more")
    assert link.remote_id == b"-LT2110-abcdefghijkl"
