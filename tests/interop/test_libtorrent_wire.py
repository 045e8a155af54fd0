"""The swarm machine speaks BEP 3, 6, 9 and 10 with libtorrent over loopback TCP, as leecher and as seed."""

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import libtorrent
import pytest

from torrent.hashing import digest_piece
from torrent.messages import Decoder, Handshake, Unknown
from torrent.metadata_fetch import MetadataFetch, MetadataFound
from torrent.metainfo import Metainfo, create, plan
from torrent.swarm import (
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
    Swarm,
    VerifyAndWrite,
)

pytestmark = pytest.mark.slow

PIECE = 65_536
DATA = random.Random(5).randbytes(3_000_000)
DEADLINE_S = 60.0


class Pump:
    """One swarm on one connected socket; pieces live in memory."""

    def __init__(self, metainfo: Metainfo, sock: socket.socket, store: dict[int, bytes]) -> None:
        self.metainfo = metainfo
        self.sock = sock
        self.store = store
        self.swarm = Swarm(metainfo, store, rng=random.Random(1))
        self.ended: str | None = None
        self.heard: set[str] = set()
        self._decoder = Decoder()
        self._carry_out(self.swarm.receive(PeerConnected("them"), time.monotonic()))

    def run(self, until: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE_S
        while not until():
            assert time.monotonic() < end, self.swarm.stats(time.monotonic())
            assert self.ended is None, self.ended
            if select.select([self.sock], [], [], 0.05)[0]:
                data = self.sock.recv(1 << 18)
                assert data, "libtorrent closed the connection"
                self._note(data)
                self._carry_out(self.swarm.receive(BytesReceived("them", data), time.monotonic()))
            self._carry_out(self.swarm.tick(time.monotonic()))

    def _note(self, data: bytes) -> None:
        for message in self._decoder.feed(data):
            self.heard.add(type(message).__name__)
            if isinstance(message, Handshake):
                assert (message.fast, message.extended) == (True, True)
            assert not isinstance(message, Unknown)

    def _carry_out(self, effects: list[Effect]) -> None:
        now = time.monotonic()
        for effect in effects:
            match effect:
                case Send(peer, data):
                    self.sock.sendall(data)
                    self._carry_out(self.swarm.receive(BytesSent(peer, len(data)), now))
                case ReadBlock(peer, index, begin, length):
                    data = self.store[index][begin : begin + length]
                    self._carry_out(self.swarm.receive(BlockRead(peer, index, begin, data), now))
                case VerifyAndWrite(index, data):
                    right = self.metainfo.verify_piece(index, data)
                    self.store[index] = bytes(data)
                    verdict = PieceVerified(index) if right else PieceFailed(index)
                    self._carry_out(self.swarm.receive(verdict, now))
                case Disconnect(_, reason):
                    self.ended = reason


@pytest.fixture
def theirs() -> Iterator[libtorrent.session]:
    policy = int(libtorrent.enc_policy.disabled)
    session = libtorrent.session(
        {
            "listen_interfaces": "127.0.0.1:0",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            "in_enc_policy": policy,
            "out_enc_policy": policy,
            "allow_multiple_connections_per_ip": True,
        }
    )
    yield session
    session.pause()


@pytest.fixture(params=["v1", "hybrid"])
def metainfo(request: pytest.FixtureRequest) -> Metainfo:
    files = plan([(("data.bin",), len(DATA))], PIECE)
    digests = [digest_piece(files, PIECE, at, DATA[at : at + PIECE]) for at in range(0, len(DATA), PIECE)]
    v1, v2 = (b"".join(digest[half] for digest in digests) for half in (0, 1))
    made = create(
        "data.bin", files, PIECE, v1, pieces_v2=v2 if request.param == "hybrid" else None, single_file=True
    )
    assert (made.v2 is not None) == (request.param == "hybrid")
    return made


def add(session: libtorrent.session, metainfo: Metainfo, folder: Path) -> libtorrent.torrent_handle:
    info = libtorrent.torrent_info(libtorrent.bdecode(metainfo.raw))
    return session.add_torrent({"ti": info, "save_path": str(folder)})


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_we_download_from_libtorrent(theirs: libtorrent.session, metainfo: Metainfo, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(DATA)
    handle = add(theirs, metainfo, tmp_path)
    wait_for(lambda: handle.status().is_seeding)
    with socket.create_connection(("127.0.0.1", theirs.listen_port())) as sock:
        pump = Pump(metainfo, sock, {})
        pump.run(lambda: pump.swarm.complete)
    assert b"".join(pump.store[index] for index in range(metainfo.piece_count)) == DATA
    stats = pump.swarm.stats(time.monotonic())
    assert stats.sources == {"them": len(DATA)}
    assert stats.peers[0].client.startswith("libtorrent/")
    assert {"HaveAll", "Extended"} <= pump.heard


def test_libtorrent_downloads_from_us(theirs: libtorrent.session, metainfo: Metainfo, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE_S)
        handle = add(theirs, metainfo, tmp_path)
        handle.connect_peer(server.getsockname())
        sock, _ = server.accept()
        with sock:
            store = {n: DATA[n * PIECE : (n + 1) * PIECE] for n in range(metainfo.piece_count)}
            pump = Pump(metainfo, sock, store)
            pump.run(lambda: handle.status().is_seeding)
    wait_for(lambda: (tmp_path / "data.bin").exists() and (tmp_path / "data.bin").read_bytes() == DATA)
    assert pump.swarm.stats(time.monotonic()).served["them"] >= len(DATA)
    assert {"HaveNone", "Extended"} <= pump.heard


def test_libtorrent_has_a_magnet_link_only(
    theirs: libtorrent.session, metainfo: Metainfo, tmp_path: Path
) -> None:
    """The info dictionary comes from us too."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE_S)
        magnet = libtorrent.parse_magnet_uri(f"magnet:?xt=urn:btih:{metainfo.hex}")
        magnet.save_path = str(tmp_path)
        handle = theirs.add_torrent(magnet)
        handle.connect_peer(server.getsockname())
        sock, _ = server.accept()
        with sock:
            store = {n: DATA[n * PIECE : (n + 1) * PIECE] for n in range(metainfo.piece_count)}
            pump = Pump(metainfo, sock, store)
            pump.run(lambda: handle.status().has_metadata)
    assert handle.torrent_file().info_section() == bytes(metainfo.raw_info)


def test_we_fetch_the_info_dictionary_from_libtorrent(
    theirs: libtorrent.session, metainfo: Metainfo, tmp_path: Path
) -> None:
    (tmp_path / "data.bin").write_bytes(DATA)
    handle = add(theirs, metainfo, tmp_path)
    wait_for(lambda: handle.status().is_seeding)
    fetch = MetadataFetch(metainfo.info_hash, rng=random.Random(1), client=b"-PM0010-")
    with socket.create_connection(("127.0.0.1", theirs.listen_port())) as sock:
        sock.settimeout(DEADLINE_S)
        effects = fetch.receive(PeerConnected("them"), 0.0)
        while fetch.found is None:
            for effect in effects:
                assert isinstance(effect, Send)
                sock.sendall(effect.data)
            data = sock.recv(1 << 18)
            assert data, "libtorrent closed the connection"
            effects = fetch.receive(BytesReceived("them", data), 0.0)
    assert MetadataFound(bytes(metainfo.raw_info)) in effects
