"""The pump of a swarm over real streams: pieces arrive, crossed dials make one link, rude peers harm none."""

from __future__ import annotations

import errno
import hashlib
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from p2pml.errors import UserError
from p2pml.net.errors import RemoteError
from p2pml.net.host import Host
from p2pml.net.piece_exchange import PieceExchange
from p2pml.net.piece_ports import Range
from p2pml.net.pieces import PROTOCOL, SwarmPump
from p2pml.net.scores import Deed
from p2pml.net.streams import Stream
from p2pml.storage.disk_errors import disk_errors
from torrent.budget import Budget
from torrent.hashing import PieceHasher
from torrent.messages import Handshake
from torrent.metainfo import Metainfo, create, plan
from torrent.swarm import Swarm

pytestmark = pytest.mark.slow

PIECE = 16384


def make(size: int) -> tuple[Metainfo, bytes]:
    data = random.Random(size).randbytes(size)
    hasher = PieceHasher(PIECE)
    hasher.update(data)
    return create("set", plan([(("set",), size)], PIECE), PIECE, hasher.finish(), single_file=True), data


@dataclass
class Side:
    """A host with one swarm; the disk is a dictionary, full while `full`, silent while `stuck` is set."""

    host: Host
    metainfo: Metainfo
    pieces: dict[int, bytes]
    exchange: PieceExchange = field(init=False)
    pump: SwarmPump = field(init=False)
    full: bool = False
    stuck: bool = False
    budget: Budget = field(default_factory=lambda: Budget(1 << 20))
    problems: list[UserError] = field(default_factory=list)
    done: trio.Event = field(default_factory=trio.Event)

    async def read(self, ranges: Sequence[Range]) -> Sequence[bytes]:
        return [self.pieces[index][begin : begin + length] for index, begin, length in ranges]

    async def write(self, pieces: Sequence[tuple[int, bytes | bytearray]]) -> Sequence[bool]:
        if self.stuck:
            await trio.sleep_forever()
        if self.full:
            with disk_errors(Path("/disk"), "set"):
                raise OSError(errno.ENOSPC, "No space left on device")
        verdicts = [self.metainfo.verify_piece(index, data) for index, data in pieces]
        self.pieces |= {
            index: bytes(data) for (index, data), good in zip(pieces, verdicts, strict=True) if good
        }
        return verdicts

    def piece_kept(self, index: int) -> None:
        assert index in self.pieces

    def completed(self) -> None:
        self.done.set()

    def local_problem(self, error: UserError) -> None:
        self.problems.append(error)


@asynccontextmanager
async def sides(
    metainfo: Metainfo, contents: Sequence[bytes], allowed: frozenset[str] | None = None
) -> AsyncIterator[list[Side]]:
    """Connected hosts; those with content seed it."""
    async with trio.open_nursery() as nursery:
        found: list[Side] = []
        for number, content in enumerate(contents):
            host = Host(hashlib.sha256(f"pieces-test {number}".encode()).digest())
            await nursery.start(host.run)
            for other in found:
                await host.connect(other.host.addrs()[0])
                other.host.learn(host.peer_id, host.addrs())
            pieces = {
                index: content[index * PIECE : (index + 1) * PIECE]
                for index in range(metainfo.piece_count if content else 0)
            }
            side = Side(host, metainfo, pieces)
            swarm = Swarm(metainfo, list(pieces), rng=random.Random(number), budget=side.budget)
            side.pump = SwarmPump(host, metainfo.info_hash, swarm, side, side, allowed)
            side.exchange = PieceExchange(host)
            side.exchange.add(side.pump)
            await nursery.start(side.pump.run)
            found.append(side)
        yield found
        nursery.cancel_scope.cancel()


async def test_pieces_arrive_and_are_counted() -> None:
    metainfo, data = make(40 * PIECE + 5)
    async with sides(metainfo, [data, b""]) as (seeder, leecher):
        leecher.pump.offer([seeder.host.peer_id])
        with trio.fail_after(20):
            await leecher.done.wait()
        assert b"".join(leecher.pieces[index] for index in range(41)) == data
        assert leecher.pump.stats().sources == {seeder.host.peer_id: len(data)}


async def test_right_pieces_speak_for_a_peer_and_other_bytes_do_not() -> None:
    metainfo, data = make(100 * PIECE)
    async with sides(metainfo, [data, b"", b""]) as (seeder, leecher, idler):
        peers = seeder.host.peer_id, idler.host.peer_id
        for peer in peers:
            leecher.host.report(peer, Deed.INVALID, "before")
        leecher.pump.offer(peers[:1])
        stream = await idler.host.open(leecher.host.peer_id, PROTOCOL)
        await stream.write(Handshake(metainfo.info_hash, bytes(20)).encode() + bytes(4) * 400_000)
        await stream.close()
        with trio.fail_after(20):
            await leecher.done.wait()
            while peers[1] in leecher.pump.connected():  # noqa: ASYNC110
                await trio.sleep(0.02)
        gave, idled = (leecher.host.standing.score(peer) for peer in peers)
        assert idled - gave == pytest.approx(len(data) / 2**20, rel=0.05)


async def test_dials_that_cross_make_one_link() -> None:
    metainfo, _ = make(40 * PIECE)
    async with sides(metainfo, [b"", b""]) as (left, right):
        for _ in range(3):
            left.pump.offer([right.host.peer_id])
            right.pump.offer([left.host.peer_id])
            left.pump.retry()
            right.pump.retry()
            await trio.sleep(0.4)
            assert left.pump.connected() == (right.host.peer_id,)
            assert right.pump.connected() == (left.host.peer_id,)
            assert len(left.pump._open_links) == len(right.pump._open_links) == 1


async def test_a_full_disk_blames_nobody_and_goes_on_when_there_is_room() -> None:
    metainfo, data = make(30 * PIECE)
    async with sides(metainfo, [data, b""]) as (seeder, leecher):
        leecher.full = True
        leecher.pump.offer([seeder.host.peer_id])
        with trio.fail_after(20):
            while not leecher.problems:  # noqa: ASYNC110 - the pump wakes nobody for this
                await trio.sleep(0.02)
        assert "full" in leecher.problems[0].cause
        assert leecher.problems[0].fix
        assert not leecher.pieces
        leecher.full = False
        leecher.pump.retry()
        with trio.fail_after(20):
            await leecher.done.wait()
        assert leecher.pump.stats().sources == {seeder.host.peer_id: len(data)}


async def test_a_liar_is_cut_off_and_not_taken_back() -> None:
    metainfo, data = make(20 * PIECE)
    async with sides(metainfo, [bytes(len(data)), data, b""]) as (liar, honest, leecher):
        leecher.pump.offer([liar.host.peer_id])
        with trio.fail_after(20):
            while not leecher.pump._dialling.is_banned(liar.host.peer_id):  # noqa: ASYNC110
                await trio.sleep(0.02)
            while liar.host.is_connected(leecher.host.peer_id):  # noqa: ASYNC110
                await trio.sleep(0.02)
        assert not leecher.pieces
        assert "false data" in leecher.host.standing.bans()[0].reason
        leecher.host.standing.unban(
            liar.host.peer_id
        )  # its chance with the host is not one with this torrent
        with trio.fail_after(20):
            while liar.host.is_connected(leecher.host.peer_id):  # noqa: ASYNC110 - the ban cuts it
                await trio.sleep(0.02)
        stream = await liar.host.open(leecher.host.peer_id, PROTOCOL)
        await stream.write(Handshake(metainfo.info_hash, bytes(20)).encode())
        await _is_ended(stream)
        leecher.pump.offer([honest.host.peer_id])
        with trio.fail_after(20):
            await leecher.done.wait()
        assert leecher.pump.stats().sources == {honest.host.peer_id: len(data)}
        assert leecher.host.standing.bans() == []  # nor is it a new misdeed to have come back


async def test_a_private_torrent_answers_a_stranger_as_an_unknown_one_does() -> None:
    metainfo, data = make(5 * PIECE)
    async with sides(metainfo, [data, b""], allowed=frozenset({"nobody"})) as (owner, stranger):
        stranger.pump.allow(None)
        stranger.pump.offer([owner.host.peer_id])
        for info_hash in (metainfo.info_hash, bytes(20)):
            stream = await stranger.host.open(owner.host.peer_id, PROTOCOL)
            await stream.write(Handshake(info_hash, bytes(20)).encode())
            await _is_ended(stream)
        await trio.sleep(0.3)
        assert not stranger.pieces
        assert owner.pump.connected() == ()
        owner.pump.allow(frozenset({stranger.host.peer_id}))
        stranger.pump.retry()
        with trio.fail_after(20):
            await stranger.done.wait()


async def test_losing_the_permission_ends_the_stream() -> None:
    metainfo, data = make(5 * PIECE)
    async with sides(metainfo, [data, b""]) as (owner, friend):
        friend.pump.offer([owner.host.peer_id])
        with trio.fail_after(20):
            await friend.done.wait()
            assert owner.pump.connected() == (friend.host.peer_id,)
            owner.pump.allow(frozenset())
            while owner.pump.connected() or friend.pump.connected():  # noqa: ASYNC110
                await trio.sleep(0.02)


async def test_rude_streams_do_no_harm() -> None:
    metainfo, data = make(10 * PIECE)
    hello = Handshake(metainfo.info_hash, bytes(20)).encode()
    rude = {
        "garbage": b"GET / HTTP/1.1\r\n" + bytes(100),
        "huge frame": hello + b"\xff\xff\xff\xff",
        "late bitfield": hello + b"\x00\x00\x00\x01\x02" + b"\x00\x00\x00\x03\x05\xff\xc0",
        "bitfield of another size": hello + b"\x00\x00\x00\x09\x05" + bytes(8),
        "unknown piece": hello + b"\x00\x00\x00\x05\x04" + b"\x7f\xff\xff\xff",
        "request beyond the end": hello + b"\x00\x00\x00\x0d\x06" + b"\xff" * 12,
    }
    async with sides(metainfo, [data, b"", b""]) as (seeder, brute, leecher):
        for name, sent in rude.items():
            stream = await brute.host.open(seeder.host.peer_id, PROTOCOL)
            await stream.write(sent)
            await _is_ended(stream, name)
        leecher.pump.offer([seeder.host.peer_id])
        with trio.fail_after(20):
            await leecher.done.wait()


async def test_a_pump_that_stops_gives_back_what_it_held() -> None:
    metainfo, data = make(5 * PIECE)
    async with sides(metainfo, [data, b""]) as (seeder, leecher):
        leecher.stuck = True
        leecher.pump.offer([seeder.host.peer_id])
        with trio.fail_after(20):
            while not leecher.budget.used:  # noqa: ASYNC110 - the pump wakes nobody for this
                await trio.sleep(0.02)
    assert leecher.budget.used == 0


async def test_a_pump_that_stops_ends_its_streams() -> None:
    metainfo, data = make(5 * PIECE)
    async with sides(metainfo, [data, b""]) as (owner, friend):
        friend.pump.offer([owner.host.peer_id])
        async with trio.open_nursery() as nursery:
            extra = SwarmPump(
                owner.host, metainfo.info_hash, Swarm(metainfo, [], rng=random.Random(1)), owner, owner
            )
            await nursery.start(extra.run)
            nursery.cancel_scope.cancel()
        stream = await friend.host.open(owner.host.peer_id, PROTOCOL)
        await extra.accept(stream, b"")  # returns at once: nothing runs any more
        assert extra.connected() == ()


async def _is_ended(stream: Stream, name: str = "") -> None:
    """Read what the other side still says until it hangs up."""
    with trio.move_on_after(5) as scope:
        try:
            while await stream.read_some():
                pass
        except RemoteError:
            pass
    assert not scope.cancelled_caught, f"the stream stayed open {name}"
    await stream.reset()
