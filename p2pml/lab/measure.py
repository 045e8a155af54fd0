"""Measure the path between two hosts, with nothing but the standard library.

On one host `python -m p2pml.lab.measure serve ADDRESS PORT`, which prints `serving` when it does; on another,
each printing one JSON object:

    python -m p2pml.lab.measure throughput ADDRESS PORT SECONDS
    python -m p2pml.lab.measure rtt ADDRESS PORT COUNT
    python -m p2pml.lab.measure loss ADDRESS PORT COUNT PER_SECOND

The server takes TCP and UDP on the same port. A datagram starts with `e` (echo it) or `s` (count it); a TCP
connection with `b` (bulk to its end, then the server answers with what it saw) or `c` (answers with the
datagrams counted so far).
"""

from __future__ import annotations

import json
import socket
import statistics
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

_CHUNK = b"\0" * 65536
_SAMPLE_S = 0.1
_WARM_UP_S = 1.5
_ETHERNET_HEADER = 14
_DATAGRAM = struct.Struct("!cQ")
_BURST_S = 0.005
_REPLY_S = 2.0
_SETTLE_S = 1.0
_UDP_BUFFER = 4 << 20
_TCP_TIMEOUT_S = 60.0


def _received(device: str) -> int:
    """Bytes of IP packets that have arrived at an interface."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == device:
            octets, packets = numbers.split()[:2]
            return int(octets) - _ETHERNET_HEADER * int(packets)
    return 0


class Server:
    """Answers the measurements of others until the process ends.

    Args:
        address: what to listen on.
        port: for TCP and UDP.
        device: the interface whose bytes are counted.
    """

    def __init__(self, address: str, port: int, device: str = "eth0") -> None:
        self._device = device
        self._counted = 0
        self._tcp = socket.create_server((address, port))
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _UDP_BUFFER)
        self._udp.bind((address, port))

    def run(self) -> None:
        """Serve for ever."""
        threading.Thread(target=self._datagrams, daemon=True).start()
        while True:
            connection, _ = self._tcp.accept()
            threading.Thread(target=self._connection, args=(connection,), daemon=True).start()

    def _datagrams(self) -> None:
        buffer = bytearray(2048)
        while True:
            size, peer = self._udp.recvfrom_into(buffer)
            if buffer[:1] == b"e":
                self._udp.sendto(buffer[:size], peer)
            else:
                self._counted += 1

    def _connection(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(_TCP_TIMEOUT_S)
            if connection.recv(1) == b"b":
                answer: Any = self._bulk(connection)
            else:
                answer, self._counted = self._counted, 0
            connection.sendall(json.dumps(answer).encode())

    def _bulk(self, connection: socket.socket) -> list[tuple[float, int, int]]:
        """Samples (s since the first byte, payload bytes, IP bytes at the interface) while a stream
        arrives."""
        buffer = bytearray(1 << 18)
        start, total, samples = time.monotonic(), 0, [(0.0, 0, _received(self._device))]
        while size := connection.recv_into(buffer):
            total += size
            now = time.monotonic() - start
            if now - samples[-1][0] >= _SAMPLE_S:
                samples.append((now, total, _received(self._device)))
        return samples


def _ask(address: str, port: int, kind: bytes, seconds: float = 0.0) -> Any:
    """Open a connection of a kind, fill it for `seconds`, and return the server's answer."""
    with socket.create_connection((address, port), _TCP_TIMEOUT_S) as connection:
        connection.sendall(kind)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            connection.sendall(_CHUNK)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return json.loads(answer)


def throughput(address: str, port: int, seconds: float) -> dict[str, float]:
    """Fill a TCP connection for `seconds`, of which the first 1.5 s (slow start) do not count.

    Returns:
        `goodput` in bit/s of payload and `rate` in bit/s of IP packets.

    Raises:
        ValueError: too short to see anything.
    """
    samples = [s for s in _ask(address, port, b"b", seconds) if _WARM_UP_S <= s[0] <= seconds]
    if len(samples) < 2:
        raise ValueError(f"{seconds} s are too short to measure a throughput")
    (t0, payload0, ip0), (t1, payload1, ip1) = samples[0], samples[-1]
    return {"goodput": (payload1 - payload0) * 8 / (t1 - t0), "rate": (ip1 - ip0) * 8 / (t1 - t0)}


def rtt(address: str, port: int, count: int) -> dict[str, float]:
    """Round-trip times of single datagrams, one after the other.

    Returns:
        `median_ms`, `min_ms`, `max_ms`, and how many were `lost`.
    """
    times: list[float] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_REPLY_S)
        sock.connect((address, port))
        for number in range(count):
            request, start = _DATAGRAM.pack(b"e", number), time.monotonic()
            try:
                sock.send(request)
                while sock.recv(2048) != request:  # a reply that was given up on
                    pass
            except (TimeoutError, ConnectionRefusedError):
                continue
            times.append((time.monotonic() - start) * 1e3)
    if not times:
        return {"lost": count}
    figures = {"median_ms": statistics.median(times), "min_ms": min(times), "max_ms": max(times)}
    return {**figures, "lost": count - len(times)}


def loss(address: str, port: int, count: int, per_second: float) -> dict[str, float]:
    """Send `count` datagrams at an even pace and ask how many arrived.

    Returns:
        `sent`, `received`, and the fraction `loss`.
    """
    _ask(address, port, b"c")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, port))
        start, sent = time.monotonic(), 0
        while sent < count:
            due = min(count, int((time.monotonic() - start + _BURST_S) * per_second))
            for number in range(sent, due):
                sock.send(_DATAGRAM.pack(b"s", number))
            sent = due
            time.sleep(_BURST_S)
    time.sleep(_SETTLE_S)
    received = _ask(address, port, b"c")
    return {"sent": sent, "received": received, "loss": 1 - received / sent}


def main(argv: list[str]) -> None:
    """Serve, or measure and print JSON."""
    match argv:
        case ["serve", address, port]:
            server = Server(address, int(port))
            print("serving", flush=True)
            server.run()
        case ["throughput", address, port, seconds]:
            print(json.dumps(throughput(address, int(port), float(seconds))))
        case ["rtt", address, port, count]:
            print(json.dumps(rtt(address, int(port), int(count))))
        case ["loss", address, port, count, per_second]:
            print(json.dumps(loss(address, int(port), int(count), float(per_second))))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
