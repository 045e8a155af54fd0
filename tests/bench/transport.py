"""How fast one stream is: ours, libp2p's own stack, bare trio TCP and trio SSL, on loopback.

Two processes: one sends in writes of one size, for about the same time in every run, the other reads and
tells when it has everything. The kinds take turns within every round, so that a busy machine slows all of
them alike. Prints the medians over the rounds as JSON, with the machine's load before and after.

    python tests/bench/transport.py                       # 7 rounds, 64 KiB, 256 KiB and 1 MiB writes
    python tests/bench/transport.py --rounds 1 --seconds 0.3 --sizes 262144
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import ssl
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

KINDS = ("fast", "stock", "tcp", "ssl")
PROTOCOL = "/bench/sink/1.0.0"
READ_BYTES = 256 * 1024
MARK = b"done"


async def serve_host(kind: str) -> None:
    from p2pml.net.host import Host

    async def sink(stream: Any) -> None:
        remaining = int.from_bytes(await stream.read_exact(8), "big")
        while remaining:
            remaining -= len(await stream.read_some(min(remaining, READ_BYTES)))
        await stream.write(MARK)

    async with Host(os.urandom(32), transport=kind).running() as host:
        host.handle(PROTOCOL, sink)
        print(host.addrs()[0], flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)


async def serve_socket(kind: str, folder: Path) -> None:
    async def sink(stream: Any) -> None:
        if kind == "ssl":
            stream = trio.SSLStream(stream, server_context(folder), server_side=True)
        async with stream:
            remaining = int.from_bytes(await stream.receive_some(8), "big")
            while remaining:
                remaining -= len(await stream.receive_some(min(remaining, READ_BYTES)))
            await stream.send_all(MARK)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, sink, [listener])
        print(listener.socket.getsockname()[1], flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


async def send_host(kind: str, address: str, size: int, total: int) -> float:
    from p2pml.net.host import Host

    data = bytes(size)
    async with Host(os.urandom(32), transport=kind).running() as host:
        stream = await host.open(await host.connect(address), PROTOCOL)
        begin = time.perf_counter()
        await stream.write(total.to_bytes(8, "big"))
        for _ in range(total // size):
            await stream.write(data)
        await stream.read_exact(len(MARK))
        elapsed = time.perf_counter() - begin
        await stream.close()
    return elapsed


async def send_socket(kind: str, address: str, size: int, total: int, folder: Path) -> float:
    data = bytes(size)
    stream: Any = await trio.open_tcp_stream("127.0.0.1", int(address))
    if kind == "ssl":
        context = ssl.create_default_context(cafile=str(folder / "cert.pem"))
        stream = trio.SSLStream(stream, context, server_hostname="localhost")
        await stream.do_handshake()
    async with stream:
        begin = time.perf_counter()
        await stream.send_all(total.to_bytes(8, "big"))
        for _ in range(total // size):
            await stream.send_all(data)
        await stream.receive_some(len(MARK))
        return time.perf_counter() - begin


def server_context(folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def make_certificate(folder: Path) -> None:
    """A self-signed certificate for `localhost`, for the SSL runs."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(cert.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


class Sink:
    """The reading process of one kind."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", kind, "--folder", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


def one_run(kind: str, sink: Sink, size: int, seconds: float, rate: float, folder: Path) -> float:
    """MB/s of one run that should take about `seconds`, judged by the `rate` of the one before."""
    total = max(1, round(rate * 1e6 * seconds / size)) * size
    if kind in ("fast", "stock"):
        elapsed = trio.run(send_host, kind, sink.address, size, total)
    else:
        elapsed = trio.run(send_socket, kind, sink.address, size, total, folder)
    return total / elapsed / 1e6


def measure(rounds: int, seconds: float, sizes: list[int], kinds: list[str]) -> dict[str, Any]:
    rates: dict[tuple[str, int], list[float]] = {(kind, size): [] for size in sizes for kind in kinds}
    load = os.getloadavg()
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_certificate(folder)
        sinks = {kind: Sink(kind, folder) for kind in kinds}
        try:
            for _ in range(rounds):
                for (kind, size), measured in rates.items():
                    rate = measured[-1] if measured else 50.0
                    measured.append(one_run(kind, sinks[kind], size, seconds, rate, folder))
        finally:
            for sink in sinks.values():
                sink.stop()
    return {
        "unit": "MB/s, median of the rounds, one stream, two processes on loopback",
        "rounds": rounds,
        "seconds": seconds,
        "cpus": os.cpu_count(),
        "load": {"before": load, "after": os.getloadavg()},
        "median": {
            str(size): {kind: round(statistics.median(rates[kind, size]), 1) for kind in kinds}
            for size in sizes
        },
        "runs": {f"{kind} {size}": [round(rate, 1) for rate in runs] for (kind, size), runs in rates.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="aimed at for each run")
    parser.add_argument("--sizes", type=int, nargs="+", default=[65536, 262144, 1048576])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--serve", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve in ("fast", "stock"):
        trio.run(serve_host, given.serve)
    elif given.serve:
        trio.run(serve_socket, given.serve, given.folder)
    else:
        print(json.dumps(measure(given.rounds, given.seconds, given.sizes, given.kinds), indent=2))


if __name__ == "__main__":
    main()
