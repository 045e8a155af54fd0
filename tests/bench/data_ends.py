"""One end of a transfer of `tests.bench.data`, as a process of its own.

It says on standard output, a line each: how it is reached, once it is ready; and, if it fetches, the seconds
that took. What to fetch from comes as a line on standard input, whose end is the end of the process.
"""

from __future__ import annotations

import cProfile
import functools
import sys
import time
from pathlib import Path

import libtorrent
import trio

from p2pml.net.plain_peer import plain_name
from tests.interop.clients import add, libtorrent_up
from tests.node.data_nodes import USUAL, Node, run_node
from torrent.metainfo import Metainfo

METAINFO = "bench.torrent"
PAYLOAD = "payload"
"""The folder, in the bench's own, that holds what is seeded."""
NAME = "bench"
PATIENCE_S = 120.0

_POLICY = libtorrent.enc_policy
_PLAIN = {"out_enc_policy": _POLICY.pe_disabled, "in_enc_policy": _POLICY.pe_disabled}
_RC4 = {
    "out_enc_policy": _POLICY.pe_forced,
    "in_enc_policy": _POLICY.pe_forced,
    "allowed_enc_level": libtorrent.enc_level.pe_rc4,
    "prefer_rc4": True,
}


def say(what: object) -> None:
    print(what, flush=True)


async def heard() -> str:
    """The next line of the standard input, empty at its end."""
    return (await trio.to_thread.run_sync(sys.stdin.readline)).strip()


async def ours(root: Path, home: Path, plain: bool, seeds: bool) -> None:
    """A node with nothing but the data layer, on its real hosts, stores and threads."""
    metainfo = (root / METAINFO).read_bytes()
    async with trio.open_nursery() as nursery:
        node: Node = await nursery.start(run_node, home, 0 if seeds else 1, [], None, plain, USUAL)
        if seeds:
            await node.data.seed(root / PAYLOAD / NAME, hybrid=Metainfo.parse(metainfo).v2 is not None)
            say(plain_name("127.0.0.1", node.port) if plain else node.host.addrs()[0])
        else:
            say("ready")
            await fetch(node, metainfo, await heard(), plain)
        await heard()
        nursery.cancel_scope.cancel()


async def fetch(node: Node, metainfo: bytes, source: str, plain: bool) -> None:
    peers = [source] if plain else [await node.host.connect(source)]
    begin = time.perf_counter()
    info = await node.data.add(metainfo, peers=() if plain else peers)
    if plain:
        node.data.meet(info.infohash, peers)
    await node.data.wait(info.infohash, PATIENCE_S)
    say(time.perf_counter() - begin)


def theirs(root: Path, home: Path, rc4: bool, seeds: bool) -> None:
    """libtorrent, in a process of its own for each end."""
    metainfo = (root / METAINFO).read_bytes()
    with libtorrent_up(**(_RC4 if rc4 else _PLAIN)) as session:
        if seeds:
            handle = add(session, metainfo, root / PAYLOAD)
            await_seeding(handle)
            say(session.listen_port())
        else:
            say("ready")
            port = int(sys.stdin.readline())
            begin = time.perf_counter()
            handle = add(session, metainfo, home)
            handle.connect_peer(("127.0.0.1", port))
            await_seeding(handle)
            say(time.perf_counter() - begin)
        sys.stdin.readline()


def await_seeding(handle: libtorrent.torrent_handle) -> None:
    end = time.monotonic() + PATIENCE_S
    while not handle.status().is_seeding:
        if time.monotonic() > end:
            raise TimeoutError(f"libtorrent: {handle.status().state} after {PATIENCE_S} s")
        time.sleep(0.005)


def aria2(root: Path, home: Path, tracker: str, seeds: bool) -> list[str]:
    """The command of an aria2c, which finds its peer by the tracker, and ends when it has fetched."""
    return [
        "aria2c",
        "--quiet",
        "--no-conf",
        "--enable-dht=false",
        "--enable-dht6=false",
        "--bt-enable-lpd=false",
        "--enable-peer-exchange=false",
        "--disable-ipv6=true",
        "--interface=127.0.0.1",
        "--file-allocation=none",
        "--bt-seed-unverified=true",
        "--check-integrity=false",
        f"--bt-tracker={tracker}",
        "--seed-ratio=0.0" if seeds else "--seed-time=0",
        f"--dir={root / PAYLOAD if seeds else home}",
        str(root / METAINFO),
    ]


def run(kind: str, root: Path, home: Path, seeds: bool, profile: Path | None) -> None:
    """Be one end of a transfer.

    Args:
        root: has the metainfo and the payload.
        home: this end's own folder.
        profile: where to put what the main thread did.
    """
    profiler = cProfile.Profile()
    if profile is not None:
        profiler.enable()
    if kind in ("libp2p", "plain"):
        trio.run(functools.partial(ours, root, home, kind == "plain", seeds))
    else:
        theirs(root, home, kind == "rc4", seeds)
    if profile is not None:
        profiler.disable()
        profiler.dump_stats(profile)
