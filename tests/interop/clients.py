"""libtorrent as an ordinary client, and a small HTTP tracker, both on loopback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote_to_bytes

import libtorrent

from torrent import bencode

DEADLINE_S = 120.0


@contextmanager
def libtorrent_up(**settings: object) -> Iterator[libtorrent.session]:
    """A session with its default encryption (it tries that first, and falls back to none)."""
    session = libtorrent.session(
        {
            "listen_interfaces": "127.0.0.1:0",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            "allow_multiple_connections_per_ip": True,
            "announce_to_all_trackers": True,
            **settings,
        }
    )
    try:
        yield session
    finally:
        session.pause()


def add(session: libtorrent.session, metainfo: bytes, folder: Path) -> libtorrent.torrent_handle:
    """Seed or fetch a torrent; what lies in `folder` already is checked first."""
    info = libtorrent.torrent_info(libtorrent.bdecode(metainfo))
    return session.add_torrent({"ti": info, "save_path": str(folder)})


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.05)


def same_files(left: Path, right: Path) -> bool:
    """Whether two folders hold the same files, pad files left out."""
    names = [path.relative_to(left) for path in sorted(left.rglob("*")) if path.is_file()]
    return bool(names) and all((left / name).read_bytes() == (right / name).read_bytes() for name in names)


@dataclass
class Tracker:
    """Names everybody who announced to everybody else of the same torrent.

    Attributes:
        told: (info-hash, port, event) of each announcement.
    """

    url: str = ""
    interval: int = 1800
    told: list[tuple[bytes, int, str]] = field(default_factory=list)
    queries: list[dict[str, bytes]] = field(default_factory=list)
    peers: dict[bytes, dict[tuple[str, int], None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def events(self, port: int) -> list[str]:
        return [event for _, who, event in self.told if who == port]

    def answer(self, ip: str, query: str) -> bytes:
        fields = {
            name: unquote_to_bytes(value.replace("+", " "))
            for name, _, value in (part.partition("=") for part in query.split("&"))
        }
        with self._lock:
            info_hash, port = fields["info_hash"], int(fields["port"])
            event = fields.get("event", b"").decode()
            self.queries.append(fields)
            self.told.append((info_hash, port, event))
            swarm = self.peers.setdefault(info_hash, {})
            others = [peer for peer in swarm if peer != (ip, port)]
            swarm[ip, port] = None
            if event == "stopped":
                del swarm[ip, port]
        rows = b"".join(socket.inet_aton(host) + number.to_bytes(2, "big") for host, number in others)
        return bencode.encode({b"interval": self.interval, b"peers": rows})


@contextmanager
def tracker_up(answer: Callable[[], tuple[int, bytes]] | None = None) -> Iterator[Tracker]:
    """A tracker; `answer` makes one that says (status, body) whatever it is asked."""
    tracker = Tracker()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = 200, tracker.answer(self.client_address[0], self.path.partition("?")[2])
            if answer is not None:
                status, body = answer()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status in (301, 302):
                self.send_header("Location", tracker.url)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tracker.url = f"http://127.0.0.1:{server.server_port}/announce"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield tracker
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
