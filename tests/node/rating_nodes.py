"""Nodes that are rated: real services on real hosts, and one chain whose time and blocks a test moves on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import trio

from chain.baseline.dataset import Samples
from chain.baseline.episode import train
from chain.baseline.kernel import NumpyTrainer
from chain.baseline.trace import Leaf
from chain.draft import Draft
from chain.errors import InvalidRating
from chain.genesis import Genesis
from chain.ledger import Place
from chain.mempool import Mempool
from chain.params import DEMO, ChainParams
from chain.producer import ProposerKeys
from chain.quality import BUNDLED
from chain.rating import entries as rating_entries
from chain.rating.items import Commit, Point
from chain.state import State
from chain.transition import open_slot
from chain.types import Block
from p2pml.errors import UserError
from p2pml.home import Home
from p2pml.net.host import Host
from p2pml.node.baseline_run import Baseline, load_baseline
from p2pml.node.events import Events
from p2pml.node.rating_baseline import keep
from p2pml.node.rating_service import RatingService
from p2pml.node.rating_training import Effort, RunLanes
from p2pml.worker.lanes.pool import Look, Plan, Window
from tests.chain.conftest import World
from tests.chain.rating_window import Windows

PARAMS = replace(
    DEMO, slots_per_epoch=16, window_slots=4, window_every_epochs=3, grace_slots=2, reveal_slots=2,
    audit_commit_slots=8, audit_reveal_slots=2, challenge_slots=6, slot_ms=1_000, rank_step_ms=300,
)  # fmt: skip


def small_digits() -> Baseline:
    """The bundled digits cut to a few inputs: an episode takes a twentieth of a second."""
    full = load_baseline()
    net = replace(full.net, inputs=96, hidden=32, batch=32)
    cut = [Samples(np.ascontiguousarray(part.x[:, :96]), part.y) for part in (full.train, full.test)]
    return Baseline(net, *cut)


class SharedChain:
    """One chain for all nodes, and their one pool; `tests.chain.rating_window` makes its blocks.

    Time stands still at the beginning of a slot until `go` moves it on.
    """

    def __init__(self, count: int, params: ChainParams = PARAMS) -> None:
        self.world = World((10,) * count, params=params)
        self.windows = Windows(self.world)
        self.pool = Mempool()
        self.slot = 1
        self.blocks: dict[int, Block] = {}
        self._other: State | None = None
        self._changed, self._moved = trio.Event(), trio.Event()

    @property
    def genesis(self) -> Genesis:
        return self.world.genesis

    def clock_ms(self) -> int:
        return self.genesis.slot_start_ms(self.slot)

    def state(self) -> State:
        return self._other or self.world.state

    def slot_now(self) -> int:
        return self.slot

    async def wait_change(self) -> None:
        await self._changed.wait()

    async def sleep_until(self, time_ms: int) -> None:
        await trio.lowlevel.checkpoint()
        while self.clock_ms() < time_ms:
            await self._moved.wait()

    async def block(self, id_or_height: bytes | int) -> Block | None:
        await trio.lowlevel.checkpoint()
        assert isinstance(id_or_height, int)
        return self.blocks.get(id_or_height)

    async def send_rating(self, point: Point) -> None:
        await trio.lowlevel.checkpoint()
        try:
            self.pool.ratings.add(point, self.state(), self.slot)
        except InvalidRating as error:
            raise UserError(str(error)) from error

    def pass_slot(self, slot: int) -> None:
        """Time goes on, without a block."""
        self.slot = slot
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    def go(self, slot: int) -> Block:
        """A block in `slot` with what waits and applies, and time goes on to it."""
        self.pass_slot(slot)
        items = self.pool.ratings.select(open_slot(self.state(), slot), slot)
        block = self.windows.go(slot, items)
        self.blocks[self.state().height] = block
        self.pool.ratings.on_head(items, self.state(), slot)
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        return block

    def turn_to(self, window: rating_entries.Window) -> None:
        """From now on another branch is the best, as long as this one, whose window is this."""
        state = self.state()
        draft = Draft(state)
        draft.put(rating_entries.WINDOW_KEY, window)
        place = Place(state.height, state.slot, state.weight)
        self._other = draft.seal(b"\x0b" * 32, place, state.randomness, state.finality, state.tables)
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def waiting(self, kind: type[Point]) -> int:
        """How many items of a kind wait for a block."""
        return sum(isinstance(point, kind) for point in self.pool.ratings.points())


async def train_two_episodes(plan: Plan, progress: Callable[[Look], None]) -> Window:
    """What lanes do, in a thread: two episodes and a half."""

    def work() -> list[Leaf]:
        trainer = NumpyTrainer(plan.net, SMALL.train)
        leaves = [leaf for episode in range(3) for leaf in train(trainer, plan.challenge, episode) if leaf]
        return leaves[:20]

    leaves = await trio.to_thread.run_sync(work)
    progress(Look(len(leaves), 0.5))
    return Window(tuple(leaves), 1000, None, 1)


SMALL = small_digits()


@dataclass
class RatedNode:
    """One node; `stop` and `start` are a restart, on the same disk."""

    number: int
    chain: SharedChain
    home: Home
    network: dict[bytes, Host]
    unreachable: set[bytes]
    lanes: RunLanes = train_two_episodes
    events: Events = field(default_factory=Events)
    rests: list[bool] = field(default_factory=list)
    namesakes: list[str] = field(default_factory=list)
    service: RatingService = field(init=False)
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    _stopped: trio.Event = field(default_factory=trio.Event)

    @property
    def keys(self) -> ProposerKeys:
        return self.chain.world.validators[self.number]

    @property
    def account(self) -> bytes:
        return self.keys.public

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        self._scope, self._stopped = trio.CancelScope(), trio.Event()

        async def rest(resting: bool) -> None:
            await trio.lowlevel.checkpoint()
            self.rests.append(resting)

        async def nobody_has_it(infohash: bytes) -> tuple[bytes, Path]:
            raise UserError(f"nobody has {infohash.hex()}", "wait")

        try:
            with self._scope:
                async with Host(bytes([self.number + 31]) * 32).running() as host:
                    self.network[self.account] = host
                    self.service = RatingService(
                        self.chain, self.keys.keypair, host, self._peers_of, nobody_has_it, self.home,
                        self.events, Effort(lanes=1, nice=0), rest, self.lanes,
                    )  # fmt: skip
                    await self.service.run(task_status=task_status)
        finally:
            self.network.pop(self.account, None)
            self._stopped.set()

    async def stop(self) -> None:
        self._scope.cancel()
        await self._stopped.wait()

    def _peers_of(self, account: bytes) -> Sequence[str]:
        """By loopback, whoever is there, after those who say that they are everybody."""
        host, own = self.network.get(account), self.network[self.account]
        if host is None or account in self.unreachable:
            return ()
        own.learn(host.peer_id, host.addrs())
        return (*self.namesakes, host.peer_id)

    def told(self, kind: str) -> list[dict[str, Any]]:
        """The data of its events of a kind."""
        return [event.data for event in self.events.since(0) if event.kind == kind]


class Net:
    """Some rated nodes."""

    def __init__(self, folder: Path, count: int, nursery: trio.Nursery, params: ChainParams) -> None:
        self.chain, self._nursery = SharedChain(count, params), nursery
        self.network: dict[bytes, Host] = {}
        self.unreachable: set[bytes] = set()
        self.nodes = [
            RatedNode(i, self.chain, Home(folder / f"n{i}"), self.network, self.unreachable)
            for i in range(count)
        ]
        for node in self.nodes:
            keep(node.home.ratings / "baselines" / BUNDLED.hex(), SMALL)

    async def start(self, *numbers: int) -> None:
        numbers = numbers or tuple(range(len(self.nodes)))
        for number in numbers:
            await self._nursery.start(self.nodes[number].run)
        await self.until(lambda: all(self.nodes[i].service.baselines.get(BUNDLED) for i in numbers))

    def peer_of(self, node: RatedNode, asker: Host) -> str:
        """A node's peer id, once the asker knows its address."""
        host = self.network[node.account]
        asker.learn(host.peer_id, host.addrs())
        return host.peer_id

    async def until(self, condition: Callable[[], object], within: float = 60) -> None:
        """Wait for what the nodes do."""
        with trio.fail_after(within):
            while not condition():  # noqa: ASYNC110  (what it waits for has no event)
                await trio.sleep(0.01)

    async def until_asked(self, condition: Callable[[], object]) -> None:
        """The same, for what follows from asking others: a question may fail on a busy machine, and is asked
        again in the next slot only.
        """
        for _ in range(4):
            with trio.move_on_after(10):
                await self.until(condition)
                return
            self.chain.pass_slot(self.chain.slot + 1)
        await self.until(condition)

    async def announce(self) -> None:
        """To the announcement."""
        while not self.chain.state().window().mix:
            self.chain.go(self.chain.slot + 1)

    async def commit(self, count: int) -> None:
        """To the block with so many claims."""
        window = self.chain.state().window()
        self.chain.pass_slot(window.start)
        await self.until(lambda: self.chain.waiting(Commit) == count)
        self.chain.go(window.start + window.slots)
        assert self.chain.state().window().claims == count


@asynccontextmanager
async def rated_net(folder: Path, count: int = 4, params: ChainParams = PARAMS) -> AsyncIterator[Net]:
    async with trio.open_nursery() as nursery:
        yield Net(folder, count, nursery, params)
        nursery.cancel_scope.cancel()
