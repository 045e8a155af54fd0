"""A node's rating: it trains in windows, claims, shows, audits and rules, as the chain asks for it.

Each part looks at the chain at every new head and every slot, and does what is not done yet: nothing has to
be remembered but what is on disk, and a restart or another branch needs no care of its own.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio

from chain.crypto import Keypair
from chain.errors import InvalidRating
from chain.rating.auditing import with_neighbours
from chain.rating.closing import Reason
from chain.rating.court import Court, judge
from chain.rating.entries import Claim
from chain.rating.items import ProvenLeaf
from chain.rating.phases import check_leaf
from p2pml.home import Home
from p2pml.net.errors import RemoteError
from p2pml.net.host import Host
from p2pml.net.rating_exchange import Question, ask_leaves, serve_leaves
from p2pml.node.events import Events
from p2pml.node.quiet_thread import QuietThread
from p2pml.node.rating_audits import Audits
from p2pml.node.rating_baseline import BaselineKeeper, Fetch
from p2pml.node.rating_claims import Claims
from p2pml.node.rating_parts import OwnTraces, RatingChain, RatingParts, View
from p2pml.node.rating_training import Effort, Lanes, Rest, RunLanes, Training
from p2pml.storage.audit_notes import AuditNotes
from p2pml.storage.rating_traces import RatingTraces

log = logging.getLogger(__name__)

PeersOf = Callable[[bytes], Sequence[str]]
"""The ids of the peers that say they are an account."""
MAX_NAMESAKES = 64
"""Peers that are asked at once for one account's leaves: of more than that others are drawn each time."""


class RatingService:
    """All of it.

    Args:
        chain: running while this runs.
        keys: of the validator.
        host: likewise; serves leaves to auditors.
        peers_of: whom to ask for a subject's leaves.
        fetch: gets a data set that the voters named.
        home: `ratings/` in it belongs to this service.
        events: `rating.window`, `rating.training`, `rating.committed`, `rating.missed`, `rating.rated`,
            `rating.audit`, `rating.accused`, `rating.ruled`, `rating.baseline`.
        effort: what this node gives to a window; None to take no part, but rule on accusations.
        rest: has the node's other training stand still in a window.
        lanes: trains; None for processes on this machine.
        rng: draws whom to ask of too many peers that say they are one account.
    """

    def __init__(
        self,
        chain: RatingChain,
        keys: Keypair,
        host: Host,
        peers_of: PeersOf,
        fetch: Fetch,
        home: Home,
        events: Events,
        effort: Effort | None,
        rest: Rest,
        lanes: RunLanes | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._host, self._peers_of, self._rng = host, peers_of, rng or random.Random()
        self._thread = QuietThread(Effort().nice if effort is None else effort.nice)
        self.baselines = BaselineKeeper(home.ratings / "baselines", fetch, self._thread, events)
        self.court = Court(self.baselines.get)
        self._parts = parts = RatingParts(chain, keys, self.baselines, self._thread, events)
        self._own = OwnTraces(parts, RatingTraces(home.ratings))
        self._training = (
            None if effort is None else Training(parts, self._own, effort, lanes or Lanes(), rest)
        )
        self._claims = Claims(parts, self._own)
        notes = AuditNotes(home.ratings / "audit.json")
        self._audits = Audits(parts, notes, self._ask, self.court)
        self._told = 0

    @property
    def segments(self) -> int | None:
        """Finished so far in the window that is under way; None where this node trains in none."""
        return None if self._training is None else self._training.segments

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled; started at once."""
        serve_leaves(self._host, self._leaves)
        window = self._parts.view().window
        self._told = window.start if window.over else 0
        try:
            async with trio.open_nursery() as nursery:
                for duty in (
                    self._keep_baselines,
                    self._be_subject,
                    self._be_auditor,
                    self._report,
                    self._rule,
                    self._tell,
                ):
                    nursery.start_soon(self._repeat, duty)
                task_status.started()
        finally:
            self._thread.close()

    async def _repeat(self, duty: Callable[[View], Awaitable[None]]) -> None:
        while True:
            view = self._parts.view()
            await duty(view)
            await self._parts.wait(view)

    @property
    def problem(self) -> str:
        """Why this node could take no part in a window that began now; empty when it could, or shall not."""
        view = self._parts.view()
        infohash = view.state.baseline(view.state.epoch).infohash
        if self._training is None or not _concerned(view, self._parts.account):
            return ""
        if self.baselines.get(infohash) is not None:
            return ""
        reason = self.baselines.problems.get(infohash, "it is being prepared")
        return f"the baseline data set {infohash.hex()} is not here: {reason}"

    async def _keep_baselines(self, view: View) -> None:
        if _concerned(view, self._parts.account):
            await self.baselines.look(view.state)

    async def _be_subject(self, view: View) -> None:
        if self._training is not None:
            await self._training.look(view)
            await self._claims.look(self._parts.view())

    async def _be_auditor(self, view: View) -> None:
        if self._training is not None:
            await self._audits.look(view)

    async def _report(self, view: View) -> None:
        if self._training is not None:
            await self._audits.report(view)

    async def _rule(self, view: View) -> None:
        """Replay what accusations that wait are about, so that a block can have them."""
        ratings = self._parts.chain.pool.ratings
        for accusation in ratings.unruled():
            try:
                guilty = await self._thread.run(judge, view.state, accusation, self.court)
            except InvalidRating as error:
                log.info("an accusation of %s does not fit: %s", accusation.accused.hex()[:16], error)
                continue
            if guilty is not None:
                ratings.ruled(accusation.id, guilty)
                self._parts.events.emit(
                    "rating.ruled",
                    window=accusation.window,
                    accuser=accusation.signer.hex(),
                    accused=accusation.accused.hex(),
                    charge=accusation.charge.name.lower(),
                    guilty=guilty,
                )

    async def _tell(self, view: View) -> None:
        """Say once what a window gave this node."""
        window, account = view.window, self._parts.account
        if not window.over or window.start <= self._told:
            return
        self._told = window.start
        validator, outcomes = view.state.validator(account), view.state.standing(account).outcomes
        if validator is None:
            return
        if not outcomes or outcomes[-1].window != window.start:
            self._parts.events.emit("rating.void", window=window.start)
            return
        outcome = outcomes[-1]
        self._parts.events.emit(
            "rating.rated",
            window=window.start,
            rating=validator.rating,
            outcome=outcome.rating,
            segments=outcome.segments,
            quality=outcome.quality,
            quality_factor=outcome.quality_factor,
            energy_factor=outcome.energy_factor,
            duties=outcome.duties,
            missed=outcome.missed,
            reason=Reason(outcome.reason).name.lower(),
        )

    # -- leaves ----------------------------------------------------------------------------------------

    def _leaves(self, question: Question) -> tuple[ProvenLeaf, ...]:
        """What an auditor asks for, if it is of this node's latest trace."""
        own = self._own.latest
        if own is None or (question.window, question.account) != (own.kept.window, self._parts.account):
            return ()
        known = len(own.subject.trace)
        return own.subject.serve(position for position in question.positions if position < known)

    async def _ask(self, question: Question) -> tuple[ProvenLeaf, ...]:
        """Ask all who say they are the account, at once, until what they show is all that was asked for: who
        lies about that shows nothing, or takes its time.
        """
        claim = self._parts.view().state.claim(question.account, question.window)
        if claim is None:
            return ()
        wanted = with_neighbours(question.positions)
        found: dict[int, ProvenLeaf] = {}

        async def ask(peer: str) -> None:
            try:
                leaves = await ask_leaves(self._host, peer, question)
            except RemoteError as error:
                log.debug("no leaves from %s: %s", peer, error)
                return
            for leaf in leaves:
                if leaf.index in wanted - found.keys() and _lies_under(claim, leaf):
                    found[leaf.index] = leaf
            if found.keys() == wanted:
                nursery.cancel_scope.cancel()

        peers = self._peers_of(question.account)
        async with trio.open_nursery() as nursery:
            for peer in self._rng.sample(peers, min(len(peers), MAX_NAMESAKES)):
                nursery.start_soon(ask, peer)
        return tuple(found.values())


def _lies_under(claim: Claim, leaf: ProvenLeaf) -> bool:
    """Whether a leaf is one of the trace that was committed to."""
    try:
        check_leaf(leaf, claim.segments, claim.trace_root)
    except InvalidRating:
        return False
    return True


def _concerned(view: View, account: bytes) -> bool:
    """Whether an account is a validator of a chain that has rating windows."""
    params = view.state.genesis.params
    return params.window_every_epochs > 0 and view.state.validator(account) is not None
