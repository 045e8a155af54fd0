"""What a daemon that seeds many data sets takes of memory: `python -m tests.bench.many_torrents` prints JSON.

A daemon without worker seeds sparse files, each with a random head; a second one has one data set more, all
of it random, which the first one fetches at the end. MiB of resident memory of the first: before it has
anything, with all data sets, after a restart, and the most during the download.

    python -m tests.bench.many_torrents                      # 200 of 100 MB, the download 256 MB
    python -m tests.bench.many_torrents --quick
"""

from __future__ import annotations

import argparse
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from p2pml.cli.local_network import LocalNetwork, LocalNode
from p2pml.client import NodeClient

HEAD = 65_536
"""Random bytes at the start of each file; the rest is a hole."""
SETTLE_S = 3.0
PATIENCE_S = 300.0


def memory(node: LocalNode, what: str = "VmRSS") -> float:
    """MiB, by /proc; `VmHWM`: the most since the process began."""
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith(f"{what}:")]
    return round(int(line.split()[1]) / 1024, 1)


@contextmanager
def watched(node: LocalNode) -> Iterator[Callable[[], float]]:
    """The most memory that the node was seen to take within the block."""
    most = [memory(node)]
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            most.append(max(most.pop(), memory(node)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: most[0]
    finally:
        over.set()
        thread.join()


def sparse(path: Path, size: int, seed: int) -> Path:
    with path.open("wb") as file:
        file.write(random.Random(seed).randbytes(min(HEAD, size)))
        file.truncate(size)
    return path


def noise(path: Path, size: int) -> Path:
    rng = random.Random(path.name)
    with path.open("wb") as file:
        for at in range(0, size, 1_000_000):
            file.write(rng.randbytes(min(1_000_000, size - at)))
    return path


def seed(node: LocalNode, path: Path) -> str:
    """Offer a file; returns its info-hash."""
    with NodeClient(node.home) as client:
        request = {"action": "seed", "path": str(path), "name": path.name}
        return str(client.post("/datasets", request, timeout_s=None)["infohash"])


def fetch(network: LocalNetwork, node: LocalNode, infohash: str) -> None:
    with NodeClient(node.home) as client:
        client.post("/datasets", {"action": "get", "dataset": infohash}, timeout_s=None)
        network.wait(
            "the download",
            lambda: client.get(f"/datasets/{infohash}")["complete"] or None,
            PATIENCE_S,
        )


def restart(network: LocalNetwork, node: LocalNode, torrents: int) -> None:
    """Stop and start a node; returns when it has taken up all its data sets and knows its peer."""
    node.request_stop()
    if node.wait_stopped(60) != 0:
        raise RuntimeError("the daemon did not end cleanly")
    node.start()

    def ready() -> bool | None:
        with NodeClient(node.home) as client:
            all_here = len(client.get("/datasets")) == torrents
            return (all_here and client.get("/status")["peers"]) or None

    network.wait("the restart", ready, PATIENCE_S)


def measure(root: Path, torrents: int, mb: int, download_mb: int) -> dict[str, Any]:
    """Args:
    mb: size of each data set, millions of bytes.
    download_mb: size of the one that is fetched at the end.
    """
    load = os.getloadavg()
    found: dict[str, float] = {}
    with LocalNetwork(root / "net", 2, workers=False) as network:
        network.start()
        node, other = network.nodes
        network.wait("the peers", lambda: node.get("/status")["peers"] or None, PATIENCE_S)
        time.sleep(SETTLE_S)
        found["empty"] = memory(node)
        for number in range(torrents):
            path = sparse(root / f"set{number}.bin", mb * 1_000_000, number)
            seed(node, path)
        time.sleep(SETTLE_S)
        found["seeding"], found["most while hashing"] = memory(node), memory(node, "VmHWM")
        restart(network, node, torrents)
        time.sleep(SETTLE_S)
        found["after a restart"], found["most since then"] = memory(node), memory(node, "VmHWM")
        infohash = seed(other, noise(root / "fetched.bin", download_mb * 1_000_000))
        with watched(node) as most:
            fetch(network, node, infohash)
        found["most during a download"] = most()
        time.sleep(SETTLE_S)
        found["after the download"] = memory(node)
    return {
        "units": "MiB of resident memory of the daemon",
        "torrents": torrents,
        "mb each": mb,
        "download mb": download_mb,
        "load": {"before": load, "after": os.getloadavg()},
        "memory": found,
        "KiB per torrent": round((found["after a restart"] - found["empty"]) * 1024 / torrents, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--torrents", type=int, default=200)
    parser.add_argument("--mb", type=int, default=100, help="of each, millions of bytes")
    parser.add_argument("--download-mb", type=int, default=256)
    parser.add_argument("--folder", type=Path, help="on the disk to be used; default: the temporary folder")
    parser.add_argument("--quick", action="store_true", help="4 of 1 MB, the download 8 MB")
    given = parser.parse_args()
    sizes = (4, 1, 8) if given.quick else (given.torrents, given.mb, given.download_mb)
    with TemporaryDirectory(dir=given.folder) as name:
        print(json.dumps(measure(Path(name), *sizes), indent=2))


if __name__ == "__main__":
    main()
