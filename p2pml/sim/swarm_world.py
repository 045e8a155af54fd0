"""A swarm of seeds, leechers and liars on virtual time, and what must hold after every event."""

from __future__ import annotations

import random
from dataclasses import dataclass

from p2pml.scenario.links import Link
from p2pml.sim.swarm_node import SwarmNode, Tamper
from p2pml.sim.world import Actor, Summary, World
from torrent.hashing import PieceHasher
from torrent.metainfo import Metainfo, create, plan

PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class SwarmReport:
    """How a swarm fared. Times in virtual seconds; `bound` is the fluid lower bound of the slowest peer's time."""

    summary: Summary
    peers: int
    finished: int
    median_time: float
    slowest_time: float
    bound: float
    banned_by: dict[str, int]


class SwarmWorld:
    """One torrent of random bytes, `seeds` sources, `leechers` that want it, all connected to all.

    Args:
        seed: of everything.
        leechers, seeds: how many of each; seeds are s1, s2, …, leechers p1, p2, …
        size: of the torrent, bytes.
        link: everybody's access link.
        liars: what the seeds of these names do to the blocks that they send.
    """

    def __init__(
        self,
        seed: int,
        leechers: int,
        seeds: int = 1,
        size: int = 4 * 1024 * 1024,
        link: Link | None = None,
        liars: dict[str, Tamper] | None = None,
    ) -> None:
        rng = random.Random(f"{seed}/swarm-world")
        self.content = rng.randbytes(size)
        self.metainfo = _torrent(self.content)
        self.link = link or Link(rate=20_000_000, delay_ms=25.0)
        self.seeds = [f"s{i + 1}" for i in range(seeds)]
        self.leechers = [f"p{i + 1}" for i in range(leechers)]
        self._liars = liars or {}
        names = [*self.seeds, *self.leechers]
        self._dials = {name: names[:place] for place, name in enumerate(names)}
        self._verified: dict[str, int] = {}
        self.world = World(seed, names, self._make, [self._disk_is_right, self._nothing_is_lost])
        for name in names:
            self.world.network.links[name] = self.link

    def node(self, name: str) -> SwarmNode:
        """The peer of that name."""
        actor = self.world.actors[name]
        assert isinstance(actor, SwarmNode)
        return actor

    def run(self, seconds: float) -> SwarmReport:
        """Advance and report. Raises InvariantViolated."""
        summary = self.world.run(seconds)
        times = sorted(time for name in self.leechers if (time := self.node(name).done_at) is not None)
        rate = self.link.rate or 0
        return SwarmReport(
            summary=summary,
            peers=len(self.seeds) + len(self.leechers),
            finished=len(times),
            median_time=times[len(times) // 2] if times else float("inf"),
            slowest_time=times[-1] if len(times) == len(self.leechers) else float("inf"),
            bound=fluid_bound(len(self.content), len(self.seeds), len(self.leechers), rate) if rate else 0.0,
            banned_by={
                name: sum(name in self.node(p).refused for p in self.leechers) for name in self._liars
            },
        )

    def _make(self, name: str, rng: random.Random) -> Actor:
        content = self.content if name in self.seeds else None
        return SwarmNode(self.metainfo, content, self._dials[name], rng, self._liars.get(name))

    def _disk_is_right(self, actors: dict[str, Actor], name: str) -> None:
        """What a peer has on disk is the content, byte for byte."""
        node = self.node(name)
        if len(node.disk) == self._verified.get(name):
            return
        size = self.metainfo.piece_length
        for index, data in node.disk.items():
            assert data == self.content[index * size : (index + 1) * size], (
                f"{name} keeps a wrong piece {index}"
            )

    def _nothing_is_lost(self, actors: dict[str, Actor], name: str) -> None:
        """A piece that was verified stays, and the machine agrees with the disk."""
        node = self.node(name)
        assert len(node.disk) >= self._verified.get(name, 0), f"{name} lost a piece"
        assert node.swarm.have.count == len(node.disk), f"{name}: machine and disk disagree"
        self._verified[name] = len(node.disk)


def fluid_bound(size: int, seeds: int, leechers: int, rate: int) -> float:
    """Least seconds in which `leechers` can all have `size` bytes when everybody's line carries `rate` bit/s each way.

    Source: Kumar and Ross, "Peer-Assisted File Distribution: The Minimum Distribution Time" (2006).
    """
    if not leechers:
        return 0.0
    line = rate / 8
    return max(size / (seeds * line), size / line, leechers * size / ((seeds + leechers) * line))


def _torrent(content: bytes) -> Metainfo:
    hasher = PieceHasher(PIECE)
    hasher.update(content)
    files = plan([(("content.bin",), len(content))], PIECE)
    return create("content.bin", files, PIECE, hasher.finish(), single_file=True)
