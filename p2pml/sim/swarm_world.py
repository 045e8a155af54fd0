"""A swarm of seeds, leechers and liars on virtual time, and what must hold after every event."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from p2pml.scenario.links import Link
from p2pml.sim.swarm_liars import HONEST, Behaviour
from p2pml.sim.swarm_node import SwarmNode
from p2pml.sim.world import Actor, Summary, World
from torrent.config import SwarmConfig
from torrent.hashing import PieceHasher
from torrent.metainfo import Metainfo, create, plan

PIECE = 64 * 1024
DEGREE = 30
"""Peers that each dials at most."""
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class SwarmReport:
    """How a swarm fared. Times in virtual seconds.

    `finished` and the times (None: never) are of the honest leechers; `bound` is the fluid lower bound of the
    slowest one's time; `banned_by` says for each liar how many honest peers have banned it.
    """

    summary: Summary
    peers: int
    leechers: int
    finished: int
    median_time: float | None
    slowest_time: float | None
    bound: float
    banned_by: dict[str, int]


class SwarmWorld:
    """One torrent of random bytes that some have and others want.

    Args:
        seed: of everything.
        leechers, seeds: how many (p1, p2, … and s1, s2, …), or their names.
        size: of the torrent, bytes.
        link: everybody's access link.
        liars: behaviours of the peers of these names.
        piece: length of a piece, bytes, a power of two.
        links: access links that differ from everybody's, by name.
        config: of everybody's machine.
        holds: pieces that a leecher has at the start, by name.
        dials: whom a peer connects to, where it is not left to chance.
        later: leechers that are not there at the start; `world.restart` lets them come.
    """

    def __init__(
        self,
        seed: int,
        leechers: int | Sequence[str],
        seeds: int | Sequence[str] = 1,
        size: int = 4 * 1024 * 1024,
        link: Link | None = None,
        liars: Mapping[str, Behaviour] | None = None,
        piece: int = PIECE,
        *,
        links: Mapping[str, Link] | None = None,
        config: SwarmConfig | None = None,
        holds: Mapping[str, Iterable[int]] | None = None,
        dials: Mapping[str, Sequence[str]] | None = None,
        later: Sequence[str] = (),
    ) -> None:
        rng = random.Random(f"{seed}/swarm-world")
        self.content = rng.randbytes(size)
        self.metainfo = _torrent(self.content, piece)
        self.link = link or Link(rate=20_000_000, delay_ms=25.0)
        self.seeds, self.leechers = _named(seeds, "s"), _named(leechers, "p")
        self.liars = dict(liars or {})
        self.names = [*self.seeds, *self.leechers]
        self._dials = {
            name: sorted(rng.sample(self.names[:place], min(place, DEGREE)))
            for place, name in enumerate(self.names)
        } | {name: list(peers) for name, peers in (dials or {}).items()}
        self._config = config
        self._holds = dict(holds or {})
        self._checked: dict[str, tuple[SwarmNode, set[int]]] = {}
        self.world = World(seed, self.names, self._make, [self._check], down=later)
        self.world.network.links.update(dict.fromkeys(self.names, self.link) | dict(links or {}))

    @property
    def honest_leechers(self) -> list[str]:
        """Leechers that keep to the rules."""
        return [name for name in self.leechers if name not in self.liars]

    def node(self, name: str) -> SwarmNode:
        """The peer of that name."""
        actor = self.world.actors[name]
        assert isinstance(actor, SwarmNode)
        return actor

    # -- running -----------------------------------------------------------------------------------------

    def run(self, seconds: float) -> SwarmReport:
        """Advance and report. Raises InvariantViolated."""
        summary = self.world.run(seconds)
        honest = self.honest_leechers
        times = sorted(time for name in honest if (time := self.node(name).done_at) is not None)
        rate = self.link.rate or 0
        return SwarmReport(
            summary=summary,
            peers=len(self.names),
            leechers=len(honest),
            finished=len(times),
            median_time=times[len(times) // 2] if times else None,
            slowest_time=times[-1] if len(times) == len(honest) and times else None,
            bound=fluid_bound(len(self.content), len(self.seeds), len(self.leechers), rate) if rate else 0.0,
            banned_by={
                liar: sum(liar in self.node(name).refused for name in self.names if name not in self.liars)
                for liar in self.liars
            },
        )

    def run_until_done(self, within: float) -> SwarmReport:
        """Advance until every honest leecher that is up has everything, or `within` virtual seconds."""
        report = self.run(0.0)
        while self.world.heap.now < within and not self.done:
            report = self.run(min(1.0, within - self.world.heap.now))
        return report

    @property
    def done(self) -> bool:
        """Whether every honest leecher that is up has everything."""
        return all(self.node(name).complete for name in self.honest_leechers if name not in self.world.down)

    def problems(self, report: SwarmReport) -> list[str]:
        """What went wrong although no invariant was violated."""
        late = [name for name in self.honest_leechers if not self.node(name).complete]
        return [f"stall: not complete after {report.summary.seconds:g} s: {', '.join(late)}"] if late else []

    def copies(self) -> list[int]:
        """How many peers that are up have each piece."""
        disks = [self.node(name).disk for name in self.names if name not in self.world.down]
        return [sum(piece in disk for disk in disks) for piece in range(self.metainfo.piece_count)]

    # -- faults ------------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """The process ends, its kernel ends the connections. (`world.crash` is a machine without power.)"""
        for effect in self.node(name).farewell():
            self.world.send(name, effect.to, effect.payload)
        self.world.crash(name)

    def leave_when_replicated(self, name: str, copies: int = 2) -> None:
        """The peer leaves as soon as each piece is on the disks of `copies` other peers that are up."""

        def look() -> None:
            others = [
                self.node(peer).disk
                for peer in self.names
                if peer != name and peer not in self.world.down and peer not in self.liars
            ]
            pieces = range(self.metainfo.piece_count)
            if all(sum(piece in disk for disk in others) >= copies for piece in pieces):
                self.kill(name)
            else:
                self.world.at(self.world.heap.now + _LOOK_S, look)

        self.world.at(self.world.heap.now + _LOOK_S, look)

    def _make(self, name: str, rng: random.Random) -> Actor:
        holds = None if name in self.seeds else self._holds.get(name, ())
        behaviour = self.liars.get(name, HONEST)
        dials = self._dials[name]
        return SwarmNode(self.metainfo, self.content, dials, rng, behaviour, self._config, holds)

    # -- invariants --------------------------------------------------------------------------------------

    def _check(self, name: str) -> None:
        """What must hold for the peer that acted. Raises AssertionError."""
        node = self.node(name)
        known, checked = self._checked.get(name, (node, set[int]()))
        if known is not node:  # it lost its disk and began anew
            checked = set()
        self._checked[name] = (node, checked)
        missing = checked - node.disk.keys() if len(node.disk) < len(checked) else set[int]()
        assert not missing, f"{name} lost piece {min(missing)}"
        if len(node.disk) > len(checked):
            self._disk_is_right(name, node, checked)
        if name in self.liars:
            return
        have = node.swarm.have.count
        assert have == len(node.disk), f"{name} says it has {have} pieces, on its disk are {len(node.disk)}"
        wronged = node.refused.keys() - self.liars.keys()
        assert not wronged, f"{name} banned {min(wronged)}, which is honest"

    def _disk_is_right(self, name: str, node: SwarmNode, checked: set[int]) -> None:
        size = self.metainfo.piece_length
        for index in node.disk.keys() - checked:
            right = self.content[index * size : (index + 1) * size]
            assert node.disk[index] == right, f"{name} keeps a wrong piece {index}"
            checked.add(index)


def fluid_bound(size: int, seeds: int, leechers: int, rate: int) -> float:
    """Least seconds in which all `leechers` can have `size` bytes; every line carries `rate` bit/s each way.

    0 without leechers or without seeds. Source: Kumar and Ross, "Peer-Assisted File Distribution: The Minimum
    Distribution Time" (2006).
    """
    if not leechers or not seeds:
        return 0.0
    line = rate / 8
    return max(size / (seeds * line), size / line, leechers * size / ((seeds + leechers) * line))


def _named(who: int | Sequence[str], prefix: str) -> list[str]:
    return [f"{prefix}{i + 1}" for i in range(who)] if isinstance(who, int) else list(who)


def _torrent(content: bytes, piece: int) -> Metainfo:
    hasher = PieceHasher(piece)
    hasher.update(content)
    files = plan([(("content.bin",), len(content))], piece)
    return create("content.bin", files, piece, hasher.finish(), single_file=True)
