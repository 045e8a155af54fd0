"""A node as an auditor: asks the subjects that it was drawn for, replays its part, and says what it found.

Who shows nothing is asked again until the time is nearly over, and then challenged on the chain; what it
shows there is replayed too. What is false is accused, but only after a second replay: who accuses falsely
loses as much as who cheats.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from chain.errors import InvalidRating
from chain.rating import admission, auditor
from chain.rating.auditing import opened, with_neighbours
from chain.rating.auditor import Finding, Task, owed, seconds_of, tasks_of
from chain.rating.court import Court, judge
from chain.rating.items import (
    Accusation,
    Answer,
    AuditCommit,
    AuditReveal,
    Point,
    ProvenLeaf,
    Reveal,
    reports_digest,
)
from chain.state import State
from p2pml.net.rating_exchange import Question
from p2pml.node.baseline_run import Baseline
from p2pml.node.rating_parts import RatingParts, View
from p2pml.storage.audit_notes import AuditNote, AuditNotes

log = logging.getLogger(__name__)

Ask = Callable[[Question], Awaitable[tuple[ProvenLeaf, ...]]]
"""Asks the nodes that say they are the account in question; no leaves when none of them answers."""
SEAL_SLOTS = 2
"""So many slots before the end of that reports are sealed, whatever is missing: blocks are made early."""
THEIRS = TypeVar("THEIRS", Reveal, Answer)
TasksOf = Callable[[State, bytes], tuple[Task, ...]]


class Audits:
    """Does what this node was drawn for in each window.

    Args:
        notes: where the reports lie until they are opened.
        ask: gets leaves from subjects.
        court: replays once more before anybody is accused.
        rng: chooses what nobody is to foresee.
    """

    def __init__(
        self, parts: RatingParts, notes: AuditNotes, ask: Ask, court: Court, rng: random.Random | None = None
    ) -> None:
        self._parts, self._notes, self._ask, self._court = parts, notes, ask, court
        self._rng = rng or random.SystemRandom()
        self._turn = trio.Lock()
        self._drawn = b""
        self._note: AuditNote | None = None
        self._owed: tuple[bytes, ...] = ()
        self._found: dict[bytes, Finding] = {}
        self._answered: set[bytes] = set()
        self._looked_again: set[bytes] = set()
        self._said: list[Point] = []
        """Challenges and accusations, until the chain has them: a pool may be full for a while."""

    async def look(self, view: View) -> None:
        """Replay what is to be replayed now; this may take its time."""
        window = view.window
        if window.over or not window.draw:
            return
        if self._drawn != window.draw:
            self._note = await trio.to_thread.run_sync(self._notes.read, window.start, window.draw)
            self._owed = await trio.to_thread.run_sync(owed, view.state, self._parts.account)
            self._drawn, self._found, self._said = window.draw, {}, []
            self._answered, self._looked_again = set(), set()
            await self.report(self._parts.view())
        baseline = self._parts.baselines.get(view.rules.infohash)
        if baseline is None:
            return
        if view.slot < view.borders.audit_commit_end and self._note is None:
            await self._look_at_all(view, baseline)
            await self.report(self._parts.view())
        await self._look_at_answers(view, baseline)
        if window.spot:
            await self._look_at_auditors(view, baseline)

    async def report(self, view: View) -> None:
        """Seal and open what was found so far, and say again what the chain does not have; in another task
        than `look`: deadlines wait for no replay."""
        window = view.window
        if window.over or not window.draw or self._drawn != window.draw:
            return
        async with self._turn:
            if view.slot < view.borders.audit_commit_end:
                await self._seal(view)
            elif view.slot < view.borders.audit_reveal_end:
                await self._open(view)
            await self._insist(view)

    # -- subjects --------------------------------------------------------------------------------------

    async def _look_at_all(self, view: View, baseline: Baseline) -> None:
        """Audit who has revealed and shows all that is asked for; near the end whoever is left."""
        end = view.borders.audit_commit_end
        last_call = end - _last(view.state.genesis.params.audit_commit_slots)
        for task in await self._drawn_for(tasks_of, view):
            slot = self._parts.chain.slot_now()
            revealed = task.claim.evaluations or slot > view.borders.reveal_end
            if task.subject in self._found or not revealed or slot >= end - SEAL_SLOTS:
                continue
            question = Question(task.window.start, task.subject, task.positions)
            served = task.shown(await self._ask(question))
            if slot >= last_call or served.keys() >= with_neighbours(task.positions):
                await self._look_at(view, task, served, baseline)

    async def _look_at(self, view: View, task: Task, served: auditor.Served, baseline: Baseline) -> None:
        reveal, until = await self._item_of(view, Reveal, task.subject), self._share(view)
        chain = self._parts.chain
        finding = await self._parts.thread.run(
            auditor.audit, task, served, reveal, baseline, lambda: chain.clock_ms() >= until
        )
        if self._drawn != task.window.draw:
            return  # another branch has drawn others meanwhile
        self._found[task.subject] = finding  # too late for a report that is sealed, but not to accuse
        self._parts.events.emit(
            "rating.audit",
            window=task.window.start,
            subject=task.subject.hex(),
            segments=len(task.positions),
            served=not finding.unserved,
            false=finding.accusation is not None,
        )
        if finding.unserved:
            await self._say(task.dispute(finding.unserved, self._rng))
        if finding.accusation is not None:
            await self._accuse(finding.accusation)

    def _share(self, view: View) -> int:
        """Until when the next subject may be looked at, in ms: one mark of each is worth more than all marks
        of one."""
        chain, state = self._parts.chain, self._parts.view().state
        waiting = [subject for subject in self._owed if subject not in self._found]
        if chain.slot_now() > view.borders.reveal_end:  # nobody else will reveal
            claims = [state.claim(subject, view.window.start) for subject in waiting]
            left = sum(claim is not None and bool(claim.evaluations) for claim in claims)
        else:
            left = len(waiting)
        now = chain.clock_ms()
        end = chain.genesis.slot_start_ms(view.borders.audit_commit_end - SEAL_SLOTS)
        return now + (end - now) // max(left, 1)

    async def _look_at_answers(self, view: View, baseline: Baseline) -> None:
        """Replay what subjects showed only when this node had challenged them."""
        account = self._parts.account
        for task in await self._drawn_for(tasks_of, view):
            waits = any(each.challenger == account for each in task.claim.challenges)
            if account not in task.claim.challengers or waits:
                continue
            answer = await self._item_of(view, Answer, task.subject)
            if answer is None or answer.id in self._answered:
                continue
            self._answered.add(answer.id)
            found = await self._parts.thread.run(auditor.check_answer, task, answer, baseline)
            if found is not None:
                await self._accuse(found)

    async def _item_of(self, view: View, kind: type[THEIRS], subject: bytes) -> THEIRS | None:
        """A subject's reveal, or its answer to this node, out of the block that has it."""
        genesis = self._parts.chain.genesis
        for height in range(view.state.height, 0, -1):
            block = await self._parts.chain.block(height)
            if block is None or genesis.slot_at(block.sealed.timestamp_ms) < view.borders.commit_end:
                break
            for item in block.body.ratings:
                if not isinstance(item, kind) or (item.signer, item.window) != (subject, view.window.start):
                    continue
                if not isinstance(item, Answer) or item.challenger == self._parts.account:
                    return item
        return None

    # -- reports ---------------------------------------------------------------------------------------

    async def _seal(self, view: View) -> None:
        """Commit to the reports, all at once: when all are there, or when it is time."""
        window, borders = view.window, view.borders
        if view.slot <= borders.reveal_end:
            return  # the last reveals may still be on their way
        if view.state.duty(self._parts.account, window.start) is not None:
            return
        if self._note is None:
            tasks = await self._drawn_for(tasks_of, view)
            waiting = any(task.subject not in self._found for task in tasks)
            if not self._found or (waiting and view.slot < borders.audit_commit_end - SEAL_SLOTS):
                return
            reports = tuple(self._found[subject].report for subject in sorted(self._found))
            note = AuditNote(window.start, window.draw, os.urandom(32), reports)
            try:
                await trio.to_thread.run_sync(self._notes.write, note)
            except OSError as error:
                log.error("the audit cannot be written down, so it is not sent: %s", error)
                return
            self._note = note
        await self._parts.send(self._sealed(self._note))

    async def _open(self, view: View) -> None:
        note, duty = self._note, view.state.duty(self._parts.account, view.window.start)
        if note is None or duty is None or duty.reports or duty.digest != self._sealed(note).digest:
            return
        await self._parts.send(
            AuditReveal(self._parts.account, note.window, note.draw, note.salt, note.reports)
        )

    def _sealed(self, note: AuditNote) -> AuditCommit:
        digest = reports_digest(self._parts.account, note.salt, note.reports)
        return AuditCommit(self._parts.account, note.window, note.draw, digest)

    # -- other auditors --------------------------------------------------------------------------------

    async def _look_at_auditors(self, view: View, baseline: Baseline) -> None:
        """Look again at some marks of the auditors before this one."""
        last_call = view.borders.end - _last(view.state.genesis.params.challenge_slots)
        for task in await self._drawn_for(seconds_of, view):
            report = opened(view.state, view.window, task.auditor, task.subject)
            if report is None or task.subject in self._looked_again:
                continue
            question = Question(task.window.start, task.subject, task.spots())
            served = task.shown(await self._ask(question))
            late = self._parts.chain.slot_now() >= last_call
            if not late and any(place not in served for place in task.spots()):
                continue
            self._looked_again.add(task.subject)
            by = self._parts.account
            for found in await self._parts.thread.run(auditor.look_again, task, report, served, baseline, by):
                await self._accuse(found)

    async def _drawn_for(self, of: TasksOf, view: View) -> tuple[Task, ...]:
        """In a thread: it takes a draw for each claim of the window."""
        return await trio.to_thread.run_sync(of, view.state, self._parts.account)

    async def _accuse(self, accusation: Accusation) -> None:
        view = self._parts.view()
        validator = view.state.validator(self._parts.account)
        if validator is None or not validator.bonded(view.state.genesis.params.bond):
            log.warning("%s is not accused: this node has no bond to lose", accusation.accused.hex()[:16])
            return
        try:
            guilty = await self._parts.thread.run(judge, view.state, accusation, self._court)
        except InvalidRating as error:
            log.warning("%s cannot be accused: %s", accusation.accused.hex()[:16], error)
            return
        if not guilty:
            log.error("two replays of one segment differ: this machine's arithmetic or memory is faulty")
            return
        await self._say(accusation)
        self._parts.events.emit(
            "rating.accused",
            window=accusation.window,
            accused=accusation.accused.hex(),
            charge=accusation.charge.name.lower(),
        )

    # -- the chain -------------------------------------------------------------------------------------

    async def _say(self, point: Point) -> None:
        self._said.append(point)
        await self._parts.send(point)

    async def _insist(self, view: View) -> None:
        """Say again what a pool had no room for."""
        for point in tuple(self._said):
            try:
                admission.check(point, view.state, view.slot)
            except InvalidRating:  # the chain has it, or could not take it any more
                self._said = [each for each in self._said if each is not point]
            else:
                await self._parts.send(point)


def _last(slots: int) -> int:
    """So many slots before the end of a phase what is there has to do."""
    return max(SEAL_SLOTS + 1, slots // 4)
