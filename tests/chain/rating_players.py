"""Validators that live through a rating window by the real rules: blocks, transitions, pool and court.

What a player says comes from `chain.rating.auditor`; a cheater is a subclass that differs in one thing. What
is trained is a stub (`StubTrainer`) unless a game is given the bench of a real data set.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chain.baseline.draws import challenge
from chain.baseline.episode import Trainer, look, replay, train
from chain.baseline.net import Net
from chain.baseline.trace import Leaf, Trace
from chain.crypto import H, Keypair
from chain.errors import InvalidRating, PoolFull
from chain.mempool import Mempool
from chain.params import DEMO, ChainParams
from chain.rating import auditing, auditor
from chain.rating.auditor import Finding, Subject, Task
from chain.rating.bench import Bench
from chain.rating.court import Court, judge
from chain.rating.entries import Window
from chain.rating.items import (
    Accusation,
    Answer,
    AuditCommit,
    AuditReveal,
    Commit,
    Point,
    ProvenLeaf,
    RatingItem,
    Report,
    Reveal,
    reports_digest,
    sign,
)
from chain.rating.schedule import Schedule
from chain.state import State
from chain.transactions import Register
from tests.chain.conftest import World
from tests.chain.rating_window import Windows

STUB_NET = Net(pixels=1, inputs=1, hidden=1, batch=1)
"""As many steps and segments as the real one; what a step costs is next to nothing."""
STUB_TESTS = 100
EPISODE = STUB_NET.segments
HONEST_SEGMENTS = 20


class StubTrainer:
    """`chain.baseline.episode.Trainer` whose weights are one hash, and whose steps are hashing."""

    net, count = STUB_NET, 64

    def begin(self, seed: bytes) -> None:
        self._state = H("stub-weights", seed)

    def step(self, rows: npt.NDArray[np.intp]) -> None:
        self._state = H("stub-step", self._state, rows.astype("<u4").tobytes())

    def state(self) -> bytes:
        return self._state

    def confusion(self, rows: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """Of ten classes: about one sample in twenty is taken for the next class."""
        counts = [[0] * 10 for _ in range(10)]
        for row in rows:
            wrong = H("stub-test", self._state, row.to_bytes(4, "big"))[0] < 13
            counts[row % 10][(row + wrong) % 10] += 1
        return tuple(map(tuple, counts))


class StubBench:
    """What `chain.rating.auditor` and `chain.rating.court` ask for, with that trainer."""

    tests = STUB_TESTS

    def looks(
        self, challenge: bytes, episode: int, steps: Mapping[int, int]
    ) -> dict[int, tuple[bytes, bytes]]:
        found = look(StubTrainer(), challenge, episode, steps)
        return {seen.leaf.segment: (seen.leaf.digest, seen.state) for seen in found}

    def evaluate(
        self, challenge: bytes, episode: int, rows: Sequence[int]
    ) -> tuple[bytes, tuple[tuple[int, ...], ...]]:
        trainer = StubTrainer()
        [leaf] = replay(trainer, challenge, episode, EPISODE - 1, EPISODE - 1)
        return leaf.digest, trainer.confusion(rows)


def trained(trainer: Trainer, given: bytes, segments: int) -> list[Leaf]:
    """The first leaves of a challenge, really trained."""
    leaves: list[Leaf] = []
    while len(leaves) < segments:
        for leaf in train(trainer, given, len(leaves) // EPISODE):
            if leaf is not None:
                leaves.append(leaf)
            if len(leaves) == segments:
                break
    return leaves


class Player:
    """An honest validator. What it knows of others is what they serve and what stands in blocks."""

    segments = HONEST_SEGMENTS
    joules = 0
    late = 0
    """Slots after the end of the training at which it commits."""

    def __init__(self, game: Game, keys: Keypair) -> None:
        self.game, self.keys, self.account = game, keys, keys.public
        self.rng = random.Random(game.seed + int.from_bytes(keys.public[:4], "big"))
        self.salt = H("test-salt", keys.public)
        self.reports: tuple[Report, ...] = ()

    # -- as a subject

    def leaves(self, window: Window) -> list[Leaf]:
        given = challenge(window.mix, window.start, self.account)
        return trained(self.game.trainer(), given, self.segments)

    def train(self, window: Window) -> None:
        self.subject = Subject(self.account, Trace(STUB_NET, self.leaves(window)))

    def commit(self, window: Window) -> Commit:
        return self.subject.commit(window, self.joules)

    def reveal(self, window: Window) -> Reveal | None:
        return self.subject.reveal(window, self.game.bench)

    def serve(self, positions: Sequence[int]) -> tuple[ProvenLeaf, ...]:
        return self.subject.serve(positions)

    def answers(self, state: State) -> list[Point]:
        claim = state.claim(self.account, state.window().start)
        asked = claim.challenges if claim else ()
        return [self.subject.answer(state.window(), each) for each in asked]

    def own_items(self, slot: int) -> list[RatingItem]:
        """What it puts into a block of its own past its pool."""
        return []

    # -- as an auditor

    def finding(self, task: Task) -> Finding:
        served = task.shown(self.game.players[task.subject].serve(task.positions))
        return auditor.audit(task, served, self.game.reveals.get(task.subject), self.game.bench)

    def audit(self, state: State) -> list[Point]:
        """Its sealed reports, and what it says against the subjects."""
        said: list[Point] = []
        findings: list[Finding] = []
        for task in auditor.tasks_of(state, self.account):
            found = self.finding(task)
            findings.append(found)
            if found.unserved:
                said.append(task.dispute(found.unserved, self.rng))
            if found.accusation is not None:
                said.append(found.accusation)
        self.reports = tuple(found.report for found in findings)
        if not self.reports:
            return said
        window = state.window()
        digest = reports_digest(self.account, self.salt, self.reports)
        return [AuditCommit(self.account, window.start, window.draw, digest), *said]

    def look_at_answers(self, state: State) -> list[Accusation]:
        """What it finds false in what others showed when it had challenged them."""
        found = []
        for task in auditor.tasks_of(state, self.account):
            answer = self.game.answers.pop((task.subject, self.account), None)
            if answer is not None:
                found.append(auditor.check_answer(task, answer, self.game.bench))
        return [each for each in found if each is not None]

    def opened(self, window: Window) -> AuditReveal | None:
        if not self.reports:
            return None
        return AuditReveal(self.account, window.start, window.draw, self.salt, self.reports)

    def second_looks(self, state: State) -> list[Accusation]:
        found: list[Accusation] = []
        for task in auditor.seconds_of(state, self.account):
            duty = state.duty(task.auditor, task.window.start)
            report = (
                next((each for each in duty.reports if each.subject == task.subject), None) if duty else None
            )
            if report is not None:
                served = task.shown(self.game.players[task.subject].serve(task.spots()))
                found += auditor.look_again(task, report, served, self.game.bench, self.account)
        return found


@dataclass(frozen=True)
class Means:
    """What an account has: base units, and its rating."""

    tokens: int
    bond: int
    vesting: int
    rating: int

    @classmethod
    def of(cls, state: State, public: bytes) -> Means:
        validator = state.validator(public)
        assert validator is not None
        return cls(
            state.account(public).balance, validator.bond, state.vesting(public).held, validator.rating
        )


class Game:
    """One window of a few founders with equal weight and a bond, on a chain of its own.

    Args:
        seed: names the chain, and so draws everything; feeds the cheaters' choices too.
        kinds: of the players, the honest ones left out; they come first.
        count: of all players.
        bench, trainer: of a real data set.
    """

    def __init__(
        self,
        seed: int,
        kinds: Sequence[type[Player]] = (),
        count: int = 7,
        params: ChainParams = DEMO,
        bench: Any = None,
        trainer: Callable[[], Trainer] = StubTrainer,
    ) -> None:
        self.seed = seed
        self.world = World(
            (10,) * count, params=params, users=0, balances=(100,) * count, name=f"window-{seed}"
        )
        self.windows = Windows(self.world)
        self.pool = Mempool()
        self.bench: Bench = bench or StubBench()
        self.court = Court(lambda infohash: bench or StubBench())
        self.trainer = trainer
        self.reveals: dict[bytes, Reveal] = {}
        self.answers: dict[tuple[bytes, bytes], Answer] = {}
        self.rulings: list[tuple[Accusation, bool]] = []
        every = [*kinds, *[Player] * (count - len(kinds))]
        self.players = {
            keys.public: kind(self, keys.keypair)
            for kind, keys in zip(every, self.world.validators, strict=True)
        }
        self.before: dict[bytes, Means] = {}
        self.colluders: frozenset[bytes] = frozenset()

    @property
    def state(self) -> State:
        return self.world.state

    @property
    def window(self) -> Window:
        return self.state.window()

    @property
    def borders(self) -> Schedule:
        return self.windows.borders

    @property
    def first(self) -> Player:
        """The cheater, if there is one."""
        return next(iter(self.players.values()))

    def means(self, player: Player) -> Means:
        return Means.of(self.state, player.account)

    def convicted(self, player: Player) -> bool:
        validator = self.state.validator(player.account)
        return validator is not None and validator.convicted

    def parts(self, subject: Player) -> dict[bytes, tuple[int, ...]]:
        """Each auditor's positions of a subject, in the order of the draw."""
        return auditing.parts(self.state, self.window, subject.account)

    def auditors(self, subject: Player) -> tuple[bytes, ...]:
        """Of a subject that has committed, before and after it reveals."""
        window = self.window
        table = self.state.table_at(window.start)
        return auditing.auditors(window.draw, window.start, subject.account, table)

    def duties(self, player: Player) -> list[tuple[int, ...]]:
        """The positions that a player was drawn for, of each subject; also when the window is over."""
        parts = (self.parts(subject) for subject in self.players.values())
        return [each[player.account] for each in parts if player.account in each]

    def tasks(self, player: Player) -> tuple[Task, ...]:
        """What a player was drawn for."""
        return auditor.tasks_of(self.state, player.account)

    # -- a window ----------------------------------------------------------------------------------------

    def play(self) -> Game:
        """From the genesis to the end of the first window."""
        self.begin()
        self.train()
        self.draw()
        self.audit()
        self.close()
        return self

    def begin(self) -> None:
        """Everybody puts up a bond; the window is announced."""
        params = self.world.genesis.params
        for keys in self.world.validators:
            wish = Register(keys.public, keys.vrf_public, "player", params.bond, 1)
            self.world.mine(self.world.tx(keys.keypair, wish))
        self.windows.announce()
        self.before = {public: self.means(player) for public, player in self.players.items()}

    def train(self) -> None:
        """Everybody trains and commits; a block in every slot of the grace."""
        for player in self.players.values():
            player.train(self.window)
        for slot in range(self.borders.train_end, self.borders.commit_end):
            for player in self.players.values():
                if slot == self.borders.train_end + player.late:
                    self.send(player, player.commit(self.window), slot=slot)
            self.block(slot)

    def draw(self) -> None:
        """Episodes, samples and auditors are drawn; everybody shows how it does."""
        self.block(self.borders.commit_end)
        self.drawn()
        for player in self.players.values():
            if self.state.claim(player.account, self.window.start) is not None:
                self.send(player, player.reveal(self.window))
        self.block(self.borders.commit_end + 1)

    def drawn(self) -> None:
        """The draw is known: who plays with whom may decide now."""

    def audit(self) -> None:
        """Audits, challenges, answers, accusations, opened reports."""
        for player in self.players.values():
            self.send(player, *player.audit(self.state))
        self.drain(self.borders.reveal_end, self.borders.audit_commit_end)
        for player in self.players.values():
            self.send(player, player.opened(self.window))
        self.drain(self.borders.audit_commit_end, self.borders.audit_reveal_end)

    def close(self) -> None:
        """Spots are drawn and looked at; the window ends."""
        self.block(self.borders.audit_reveal_end)
        for player in self.players.values():
            self.send(player, *player.second_looks(self.state))
        self.drain(self.borders.audit_reveal_end + 1, self.borders.end)
        self.block(self.borders.end)
        assert self.window.over

    # -- blocks ------------------------------------------------------------------------------------------

    def send(self, player: Player, *points: Point | None, slot: int | None = None) -> list[str]:
        """Sign and give to the others' pool, as gossip would. Why it refuses some is returned."""
        refused = []
        for point in points:
            if point is None:
                continue
            signed = sign(point, player.keys, self.world.genesis.chain_id)
            try:
                self.pool.ratings.add(signed, self.state, self.state.slot if slot is None else slot)
            except (InvalidRating, PoolFull) as error:
                refused.append(str(error))
        return refused

    def drain(self, first: int, end: int) -> None:
        """Blocks from slot `first` on, as long as one would hold a rating item; answers come between them."""
        for slot in range(first, end):
            self.rule()
            if not self.pool.select_ratings(self.state, slot, 1):
                return
            self.block(slot)
            for player in self.players.values():
                self.send(player, *player.answers(self.state), *player.look_at_answers(self.state))

    def rule(self) -> None:
        """What every node with the data set does with accusations."""
        for accusation in self.pool.ratings.unruled():
            try:
                guilty = judge(self.state, accusation, self.court)
            except InvalidRating:
                continue
            assert guilty is not None
            self.pool.ratings.ruled(accusation.id, guilty)

    def block(self, slot: int) -> None:
        """A block in `slot` with what waits, and what its proposer has for itself."""
        items = list(self.pool.select_ratings(self.state, slot))
        proposer = self.world.drawn(slot)
        assert proposer is not None
        items += self.players[proposer.public].own_items(slot)
        block = self.windows.go(slot, items)
        for item in block.body.ratings:
            if isinstance(item, Reveal):
                self.reveals[item.signer] = item
            if isinstance(item, Answer):
                self.answers[item.signer, item.challenger] = item
        self.rulings += [(ruling.accusation, ruling.guilty) for ruling in block.body.rulings]
        self.pool.on_head([block], [], self.state, slot)
