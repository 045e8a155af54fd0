"""How fast one stream is: ours, libp2p's own stack, bare trio TCP and trio SSL, on loopback.

Two processes: one sends in writes of one size, for about the same time in every run, the other reads and
tells when it has everything, and what that cost it. The kinds take turns within every round, so that a
busy machine slows all of them alike. Prints the medians over the rounds as JSON, with the machine's load
before and after, and the processor time of both processes together, which other programs disturb less.

    python tests/bench/transport.py                       # 7 rounds, 64 KiB, 256 KiB and 1 MiB writes
    python tests/bench/transport.py --rounds 1 --seconds 0.3 --sizes 262144
    python tests/bench/transport.py --profile --kinds fast --sizes 262144     # where the time goes
"""

from __future__ import annotations

import argparse
import cProfile
import datetime
import json
import os
import pstats
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import trio

KINDS = ("fast", "stock", "tcp", "ssl")
PROTOCOL = "/bench/sink/1.0.0"
READ_BYTES = 256 * 1024
ANSWER_BYTES = 8
"""The reader's answer at the end: microseconds of processor time, big-endian."""
PROFILE = "receiver.profile"
PROFILED = 15
"""Functions in a printed profile."""


class Cost(NamedTuple):
    """Seconds of one run."""

    elapsed: float
    processor: float


class Rate(NamedTuple):
    """MB/s, and milliseconds of processor time per MB, both processes together."""

    speed: float
    price: float


def spent_since(begin: float) -> bytes:
    return round((time.process_time() - begin) * 1e6).to_bytes(ANSWER_BYTES, "big")


def cost(begin: tuple[float, float], answer: bytes) -> Cost:
    """Of a run that began at these two times, wall and processor."""
    ours = time.process_time() - begin[1]
    return Cost(time.perf_counter() - begin[0], ours + int.from_bytes(answer, "big") / 1e6)


async def serve_host(kind: str) -> None:
    from p2pml.net.host import Host

    async def sink(stream: Any) -> None:
        remaining = int.from_bytes(await stream.read_exact(8), "big")
        begin = time.process_time()
        while remaining:
            remaining -= len(await stream.read_some(min(remaining, READ_BYTES)))
        await stream.write(spent_since(begin))

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
            begin = time.process_time()
            while remaining:
                remaining -= len(await stream.receive_some(min(remaining, READ_BYTES)))
            await stream.send_all(spent_since(begin))

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, sink, [listener])
        print(listener.socket.getsockname()[1], flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


async def send_host(kind: str, address: str, size: int, total: int) -> Cost:
    from p2pml.net.host import Host

    data = bytes(size)
    async with Host(os.urandom(32), transport=kind).running() as host:
        stream = await host.open(await host.connect(address), PROTOCOL)
        begin = time.perf_counter(), time.process_time()
        await stream.write(total.to_bytes(8, "big"))
        for _ in range(total // size):
            await stream.write(data)
        spent = cost(begin, await stream.read_exact(ANSWER_BYTES))
        await stream.close()
    return spent


async def send_socket(kind: str, address: str, size: int, total: int, folder: Path) -> Cost:
    data = bytes(size)
    stream: Any = await trio.open_tcp_stream("127.0.0.1", int(address))
    if kind == "ssl":
        context = ssl.create_default_context(cafile=str(folder / "cert.pem"))
        stream = trio.SSLStream(stream, context, server_hostname="localhost")
        await stream.do_handshake()
    async with stream:
        begin = time.perf_counter(), time.process_time()
        await stream.send_all(total.to_bytes(8, "big"))
        for _ in range(total // size):
            await stream.send_all(data)
        return cost(begin, await stream.receive_some(ANSWER_BYTES))


def server_context(folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def serve(kind: str, folder: Path, profiled: bool) -> None:
    """Be the reading process until the standard input ends."""
    profiler = cProfile.Profile()
    if profiled:
        import p2pml.net.host  # noqa: F401  (loading it is no part of a transfer)

        profiler.enable()
    if kind in ("fast", "stock"):
        trio.run(serve_host, kind)
    else:
        trio.run(serve_socket, kind, folder)
    if profiled:
        profiler.disable()
        profiler.dump_stats(folder / PROFILE)


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

    def __init__(self, kind: str, folder: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", kind, "--folder", str(folder), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def stop(self) -> None:
        """The end of its input ends it; it may have a profile to write before."""
        self.process.communicate()


def one_run(kind: str, sink: Sink, size: int, seconds: float, rate: float, folder: Path) -> Rate:
    """One run that should take about `seconds`, judged by the `rate` (MB/s) of the one before."""
    total = max(1, round(rate * 1e6 * seconds / size)) * size
    if kind in ("fast", "stock"):
        spent = trio.run(send_host, kind, sink.address, size, total)
    else:
        spent = trio.run(send_socket, kind, sink.address, size, total, folder)
    megabytes = total / 1e6
    return Rate(megabytes / spent.elapsed, spent.processor * 1000 / megabytes)


def profile(kind: str, size: int, seconds: float) -> dict[str, Any]:
    """What both sides of a run do with their time; the profiler itself slows small functions most."""
    sender = cProfile.Profile()
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_certificate(folder)
        sink = Sink(kind, folder, "--profile")
        try:
            one_run(kind, sink, size, seconds, 100.0, folder)
            rate = sender.runcall(one_run, kind, sink, size, seconds, 100.0, folder)
        finally:
            sink.stop()
        return {
            "MB/s": round(rate.speed, 1),
            "sender": hottest(pstats.Stats(sender)),
            "receiver": hottest(pstats.Stats(str(folder / PROFILE))),
        }


def hottest(stats: pstats.Stats) -> list[str]:
    """The functions with most time of their own, waiting left out: seconds, calls, name."""
    rows = [
        (own, calls, f"{Path(file).name}:{line} {function}")
        for (file, line, function), (_, calls, own, _, _) in stats.stats.items()  # type: ignore[attr-defined]
        if "'poll'" not in function
    ]
    return [
        f"{own:6.3f} s {calls:8d} x  {name}" for own, calls, name in sorted(rows, reverse=True)[:PROFILED]
    ]


def measure(rounds: int, seconds: float, sizes: list[int], kinds: list[str]) -> dict[str, Any]:
    rates: dict[tuple[str, int], list[Rate]] = {(kind, size): [] for size in sizes for kind in kinds}
    load = os.getloadavg()
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_certificate(folder)
        sinks = {kind: Sink(kind, folder) for kind in kinds}
        try:
            for _ in range(rounds):
                for (kind, size), measured in rates.items():
                    rate = measured[-1].speed if measured else 50.0
                    measured.append(one_run(kind, sinks[kind], size, seconds, rate, folder))
        finally:
            for sink in sinks.values():
                sink.stop()
    return {
        "units": "medians of the rounds, one stream, two processes on loopback: speed in MB/s, "
        "processor time of both in ms/MB",
        "rounds": rounds,
        "seconds": seconds,
        "cpus": os.cpu_count(),
        "load": {"before": load, "after": os.getloadavg()},
        "speed": medians(rates, lambda rate: rate.speed),
        "processor": medians(rates, lambda rate: rate.price),
        "runs": {
            f"{kind} {size}": [round(rate.speed, 1) for rate in runs] for (kind, size), runs in rates.items()
        },
    }


def medians(
    rates: dict[tuple[str, int], list[Rate]], of: Callable[[Rate], float]
) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for (kind, size), runs in rates.items():
        table.setdefault(str(size), {})[kind] = round(statistics.median(map(of, runs)), 2)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="aimed at for each run")
    parser.add_argument("--sizes", type=int, nargs="+", default=[65536, 262144, 1048576])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--profile", action="store_true", help="print what the time is spent on instead")
    parser.add_argument("--serve", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.folder, given.profile)
    elif given.profile:
        runs = [(kind, size) for kind in given.kinds for size in given.sizes]
        print(json.dumps({f"{k} {s}": profile(k, s, given.seconds) for k, s in runs}, indent=2))
    else:
        print(json.dumps(measure(given.rounds, given.seconds, given.sizes, given.kinds), indent=2))


if __name__ == "__main__":
    main()
