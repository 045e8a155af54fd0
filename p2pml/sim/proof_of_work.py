"""Proof of work by real hashing, to compare with: the same validators, links and slots, hash rates for
ratings.

Nakamoto's rule as it is: the branch with the most work, the first seen of equals. Every hash is done; only
their number is scaled down, since virtual miners share one processor: `hashes_per_slot` by all of them
together find one block per slot on average. Blocks are empty. Source: Nakamoto, "Bitcoin" (2008).
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from p2pml.scenario.links import Link
from p2pml.sim.consensus_report import gini
from p2pml.sim.world import Actor, Send, Summary, World

BLOCK, ASK = b"B", b"Q"
_STEPS = 20
"""Into how many steps a miner divides a slot; a block is found at the end of one."""


@dataclass(frozen=True, slots=True)
class Mined:
    """A block: parent's id, miner's number, nonce, height and the virtual second in which it was found."""

    prev: bytes
    miner: int
    nonce: int
    height: int
    found: float

    def encode(self) -> bytes:
        """80 bytes, as Satoshi's header."""
        numbers = (self.miner, self.nonce, self.height, int(self.found * 1000))
        return self.prev + b"".join(number.to_bytes(12, "big") for number in numbers)

    @classmethod
    def decode(cls, data: bytes) -> Mined:
        """The inverse."""
        miner, nonce, height, found = (
            int.from_bytes(data[at : at + 12], "big") for at in range(32, len(data), 12)
        )
        return cls(data[:32], miner, nonce, height, found / 1000)


@dataclass(frozen=True, slots=True)
class WorkReport:
    """How it went, seen by the node with the longest branch; terms as in `ConsensusReport`.

    Args:
        blocks_found: by all, on the branch or not.
        hashes: done by all miners together.
        slots_without: slots in which no block of the branch was found.
    """

    summary: Summary
    blocks_found: int
    height: int
    hashes: int
    slots_without: int
    stale: int
    reorgs: int
    deepest_reorg: int
    blocks_gini: float
    blocks: list[float]


class Miner:
    """One miner. It hashes its share of each step when the step is over, on the head that it had then.

    Args:
        number: its place among the miners.
        rate: hashes per virtual second.
        threshold: a hash below it is a block.
        step: virtual seconds.
        peers: everybody else.
    """

    def __init__(self, number: int, rate: float, threshold: int, step: float, peers: Sequence[str]) -> None:
        self._number, self._rate, self._threshold = number, rate, threshold
        self._step, self._peers = step, tuple(peers)
        self.head, self.height = bytes(32), 0
        self.blocks: dict[bytes, Mined] = {}
        self.reorgs: list[int] = []
        self.hashes = 0
        self._budget = 0.0
        self._orphans: dict[bytes, list[Mined]] = {}
        self._next = step

    def start(self, now: float) -> list[Send]:
        """Nothing but the first step's end."""
        self._next = now + self._step
        return []

    def tick(self, now: float) -> list[Send]:
        """A step is over: do its hashes."""
        self._next = now + self._step
        self._budget += self._rate * self._step
        prefix = self.head + self._number.to_bytes(12, "big")
        suffix = (self.height + 1).to_bytes(12, "big") + int(now * 1000).to_bytes(12, "big")
        while self._budget >= 1:
            self._budget -= 1
            self.hashes += 1
            data = prefix + self.hashes.to_bytes(12, "big") + suffix
            if int.from_bytes(work(data), "big") < self._threshold:
                self._adopt(Mined.decode(data))
                return [Send(peer, BLOCK + data) for peer in self._peers]
        return []

    def receive(self, source: str, payload: bytes, now: float) -> list[Send]:
        """A block, or a question for one."""
        if payload[:1] == ASK:
            known = self.blocks.get(payload[1:])
            return [Send(source, BLOCK + known.encode())] if known else []
        block = Mined.decode(payload[1:])
        if int.from_bytes(work(payload[1:]), "big") >= self._threshold:
            return []
        if block.height > 1 and block.prev not in self.blocks:
            self._orphans.setdefault(block.prev, []).append(block)
            return [Send(source, ASK + block.prev)]
        self._adopt(block)
        return []

    def deadline(self) -> float:
        """The step's end."""
        return self._next

    def digest(self) -> bytes:
        """Its head."""
        return self.head

    def branch(self) -> list[Mined]:
        """From the head down."""
        found, at = [], self.head
        while at in self.blocks:
            found.append(self.blocks[at])
            at = found[-1].prev
        return found

    def _adopt(self, block: Mined) -> None:
        waiting = [block]
        while waiting:
            block = waiting.pop()
            block_id = work(block.encode())
            self.blocks[block_id] = block
            waiting += self._orphans.pop(block_id, [])
            if block.height > self.height:
                if block.prev != self.head:
                    self._reverted(block)
                self.head, self.height = block_id, block.height

    def _reverted(self, block: Mined) -> None:
        """How deep the new branch leaves the old one."""
        above, at = set(), block.prev
        while at in self.blocks:
            above.add(at)
            at = self.blocks[at].prev
        depth, at = 0, self.head
        while at in self.blocks and at not in above:
            depth, at = depth + 1, self.blocks[at].prev
        if depth:
            self.reorgs.append(depth)


def work(header: bytes) -> bytes:
    """SHA-256 twice."""
    return hashlib.sha256(hashlib.sha256(header).digest()).digest()


def mine(
    seed: int, weights: Sequence[int], slots: int, slot_s: float, link: Link, hashes_per_slot: int = 20_000
) -> WorkReport:
    """Run it.

    Args:
        seed: of latencies and losses; the hashes are what they are.
        weights: what each miner's hash rate is proportional to.
        slots, slot_s: how long, in slots of so many seconds.
        link: everybody's.
        hashes_per_slot: by all miners together; also the mean number of hashes for a block.
    """
    names = [f"n{i + 1}" for i in range(len(weights))]
    threshold = 2**256 // hashes_per_slot
    rates = [weight / sum(weights) * hashes_per_slot / slot_s for weight in weights]

    def make(name: str, rng: random.Random) -> Actor:
        number = names.index(name)
        miners[number] = Miner(
            number, rates[number], threshold, slot_s / _STEPS, [other for other in names if other != name]
        )
        return miners[number]

    miners: dict[int, Miner] = {}
    world = World(seed, names, make, reliable=False)
    world.network.links.update(dict.fromkeys(names, link))
    summary = world.run(slots * slot_s)
    best = max(miners.values(), key=lambda miner: miner.height)
    branch = best.branch()
    made = Counter(block.miner for block in branch)
    found = {block_id for miner in miners.values() for block_id in miner.blocks}
    reorgs = [depth for miner in miners.values() for depth in miner.reorgs]
    return WorkReport(
        summary=summary,
        blocks_found=len(found),
        height=len(branch),
        hashes=sum(miner.hashes for miner in miners.values()),
        slots_without=slots - len({int(block.found / slot_s) for block in branch}),
        stale=len(found) - len(branch),
        reorgs=len(reorgs),
        deepest_reorg=max(reorgs, default=0),
        blocks_gini=gini([made[number] for number in miners]),
        blocks=[made[number] / max(1, len(branch)) for number in sorted(miners)],
    )
