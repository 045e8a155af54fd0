"""The requester's side of one job, from its spec to a model and paid trainers.

Each step is in the journal before the next begins: a requester that was killed goes on at its last finished
round.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import trio

from chain.address import encode as address
from chain.transactions import Tx
from p2pml.errors import ExitCode, UserError, exit_code, job_end
from p2pml.formats import tensors
from p2pml.node.aggregator import Aggregator
from p2pml.node.job_by_seed import division, prepare_by_seed
from p2pml.node.job_disk import Suspended, disk_errors
from p2pml.node.job_members import MemberRecord, Members
from p2pml.node.job_opening import ATTEMPTS, client_count, journaled_opening, open_on_chain, opened
from p2pml.node.job_owners import prepare_with_owners
from p2pml.node.job_prepare import Prepared, prepare
from p2pml.node.job_result import Result, keep_result, shown
from p2pml.node.job_rounds import RoundError, RoundRunner, auto_deadline
from p2pml.node.job_session import GlobalModel
from p2pml.node.job_store import JobStore, Receipted, RoundDone
from p2pml.node.job_view import JobView
from p2pml.node.ports import NodeParts
from p2pml.node.settlement import Settlement
from p2pml.node.spec_paths import spec_path
from p2pml.node.terms import JobTerms, settlements
from p2pml.node.tx_sender import TxSender
from p2pml.node.update_check import largest_norm
from p2pml.training.placement import Owned, Placement
from p2pml.training.spec import JobSpec

log = logging.getLogger(__name__)

_STATES = {ExitCode.OK: "done", ExitCode.STOPPED: "stopped"}
"""The last state of a job by how it ended; `failed` for the rest."""


class Requester:
    """One job of this node.

    Args:
        spec: what to do.
        base_dir: relative paths in the spec start here.
        parts: of the node.
        sender: of this node's transactions.
        store: the job's folder.
        view: kept up to date for people.
    """

    def __init__(
        self,
        spec: JobSpec,
        base_dir: Path,
        parts: NodeParts,
        sender: TxSender,
        store: JobStore,
        view: JobView,
    ) -> None:
        self._spec = spec
        self._base = base_dir
        self._parts = parts
        self._sender = sender
        self._store = store
        self._view = view
        self._rounds = store.rounds()
        self._resumed = store.journal.last("prepared") is not None  # the next round may have begun before
        self._training = trio.CancelScope()
        self._stopped = ""
        self._books: Settlement | None = None
        self._by_seed = spec.data.partition.kind == "by_seed"

    def stop(self, reason: str) -> None:
        """End the training; what was earned is paid."""
        self._stopped = reason
        self._training.cancel()

    async def run(self) -> None:
        """Carry the job to its end; its outcome is in the view and in the journal.

        Raises:
            Suspended: this node's disk refused something; another requester of the same store goes on.
        """
        with disk_errors(self._store.folder, self._view.id):
            await self._to_the_end()

    async def _to_the_end(self) -> None:
        self._show_earlier_runs()
        ending = self._store.journal.last("ending")
        if ending is not None:  # it was being settled when the node stopped
            code = exit_code(ending.get("end", ending["state"]))
            self._stopped = ending["reason"] if code is ExitCode.STOPPED else ""
            failed = UserError(ending["reason"], ending.get("fix", ""), code) if code else None
        else:
            failed = await self._until_trained()
        await self._close(failed)

    def _show_earlier_runs(self) -> None:
        """What the journal knows from before the node was started: the rounds, and what each peer earned."""
        self._view.history = [shown(done) for done in self._rounds]
        prepared = self._journaled()
        if prepared is None:
            return
        self._view.price = prepared.price
        for entry in self._store.journal.all("receipt"):
            peer = entry["peer"]
            record = self._view.members.setdefault(peer, MemberRecord(peer, "", "left"))
            samples = self._spec.train.samples_of_round(prepared.samples[entry["client"]])
            record.samples += samples
            record.earned += samples * prepared.price

    async def _until_trained(self) -> UserError | None:
        """Everything up to the last round; returns why it failed, if it did."""
        try:
            with disk_errors(self._store.folder, self._view.id), self._training:
                prepared = await self._prepared()
                self._view.enter("waiting")
                self._view.price = prepared.price
                job = await open_on_chain(
                    self._spec, prepared, self._parts, self._sender, self._store, self._view
                )
                await self._train(prepared, job)
        except Suspended:
            raise
        except UserError as error:
            return error
        except Exception as error:  # a mistake of ours must cost neither the node nor the trainers' pay
            log.exception("the job %s failed", self._view.id)
            return UserError(f"internal error: {error!r}", "", ExitCode.JOB_FAILED)
        return None

    async def _close(self, failed: UserError | None) -> None:
        """Settle, keep the model, say how it ended."""
        reason, self._view.fix, code = "", "", ExitCode.OK
        if self._stopped:
            reason, code = self._stopped, ExitCode.STOPPED
        elif failed is not None:
            reason, self._view.fix, code = failed.cause, failed.fix, failed.code
        state = _STATES.get(code, "failed")
        await self._store.note("ending", state=state, end=job_end(code), reason=reason, fix=self._view.fix)
        try:
            opening = journaled_opening(self._store)
            if opening is not None:
                self._view.chain_job = opening.id.hex()
                await self._settle(opening)
        except UserError as error:
            state, code = "failed", ExitCode.NOT_SETTLED
            reason = f"{reason + '; ' if reason else ''}not settled: {error.cause}"
            self._view.fix = self._view.fix or error.fix
        for record in self._view.members.values():
            record.name = record.name or self._parts.name_of(record.peer)
        prepared = self._journaled()
        if prepared is not None:
            reason = await self._keep_result(prepared, state, reason, job_end(code))
        await self._let_go()
        await self._store.note("ended", state=state, end=job_end(code), reason=reason, view=self._view.full())
        self._view.enter(state, reason, code)

    # -- before the first round ------------------------------------------------------------------------

    def _journaled(self) -> Prepared | None:
        entry = self._store.journal.last("prepared")
        return Prepared.from_entry(entry) if entry else None

    async def _prepared(self) -> Prepared:
        known = self._journaled()
        if known is not None:
            if known.owners or self._by_seed:
                return known
            files = [(self._store.shard(c).name, self._store.shard(c)) for c in range(len(known.samples))]
            if not all(path.exists() for _, path in files):
                raise UserError(
                    "the job's shards are gone from this node's disk", "start the job again", ExitCode.NO_DATA
                )
            await self._parts.data.offer(self._store.torrent_name, files)
            return known
        self._view.enter("preparing")
        if self._spec.data.partition.kind == "by_owner":
            return await prepare_with_owners(
                self._spec, self._base, self._parts, self._store, self._view.note
            )
        clients = partial(client_count, self._spec, self._parts, self._view)
        prepare_job = prepare_by_seed if self._by_seed else prepare
        return await prepare_job(self._spec, self._base, clients, self._parts, self._store, self._view.note)

    # -- the rounds ------------------------------------------------------------------------------------

    async def _train(self, prepared: Prepared, job: bytes) -> None:
        """All rounds.

        Raises:
            UserError: (code 12) too few peers; (code 16) a round failed too often.
        """
        members = self._members(prepared, job)
        settlement = self._settlement(job)
        aggregator = self._aggregator(prepared)
        failure: UserError | None = None
        # These errors are carried out by hand: the nursery would wrap them in a group.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(settlement.keep_books, self._rounds, self._view.note)
            nursery.start_soon(members.run)
            try:
                await self._all_rounds(prepared, members, settlement, aggregator)
                await self._dismiss(members, "the training is done")
            except UserError as error:
                failure = error
                await self._dismiss(members, str(failure))
            except trio.Cancelled:
                # When the node stops, nobody is told that the job is over: it goes on after the next start.
                if self._stopped:
                    await self._dismiss(members, self._stopped)
                raise
            finally:
                members.end()
                await aggregator.close()
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def _settlement(self, job: bytes) -> Settlement:
        """The job's books; one for all of it, for it knows what is on its way to a block."""
        if self._books is None or self._books.job != job:
            every = self._settle_every
            self._books = Settlement(self._parts.chain, self._sender, self._parts.keys, job, every)
        return self._books

    @property
    def _settle_every(self) -> int:
        return settlements(self._spec, self._parts.chain.genesis.params.min_fee)[0]

    @staticmethod
    async def _dismiss(members: Members, reason: str) -> None:
        with trio.CancelScope(deadline=trio.current_time() + 6, shield=True):
            await members.dismiss_all(reason)

    def _members(self, prepared: Prepared, job: bytes) -> Members:
        spec, train, owners = self._spec, self._spec.train, prepared.owners
        shared = division(spec, len(prepared.samples)).to_text() if self._by_seed else ""
        terms = JobTerms(
            self._parts.chain.genesis.chain_id, job, self._parts.keys.public, spec.name, prepared.model,
            train.client_optimizer(), train.batch, train.epochs, spec.seed, spec.rounds.max, prepared.price,
            self._settle_every, train.algorithm, train.prox, spec.transport.upload,
            spec.data.train if owners else "", shared, train.trainer,
        )  # fmt: skip
        where = self._store.dataset_file if shared else self._store.metainfo_file
        return Members(
            self._parts, terms, spec.peers, b"" if owners else where.read_bytes(),
            terms.shapes(), Owned(owners) if owners else Placement(len(prepared.samples)),
            self._store.updates, self._store.delivered(), self._view.note, self._view.peer_changed,
            self._view.members, frozenset(owners) if owners else None,
        )  # fmt: skip

    def _aggregator(self, prepared: Prepared) -> Aggregator:
        spec = self._spec
        return Aggregator(
            self._parts.worker, spec.aggregate.server_optimizer.optimizer(), prepared.model,
            self._store.evaluation, spec.aggregate.aggregation(), spec.transport.upload, self._parts.tff(),
            self._view.note,
        )  # fmt: skip

    def _global_model(self, weights: bytes) -> GlobalModel:
        norm = largest_norm(self._spec.aggregate.max_norm, weights)
        return GlobalModel(weights, tensors.digest(weights), norm)

    async def _all_rounds(
        self, prepared: Prepared, members: Members, settlement: Settlement, aggregator: Aggregator
    ) -> None:
        train = self._spec.train
        samples = {client: train.samples_of_round(count) for client, count in enumerate(prepared.samples)}
        runner = RoundRunner(
            members, self._store, samples, self._spec.peers.sample, self._spec.seed, self._view.refused,
            partial(self._check_open, settlement.job), self._spec.peers.backup,
        )  # fmt: skip
        weights, state = self._store.load_model(len(self._rounds))
        model = self._global_model(weights)
        while len(self._rounds) < self._spec.rounds.max and not self._target_reached():
            self._check_open(settlement.job)
            number = len(self._rounds)
            try:
                begun, chosen = await self._round(number, model, members, runner)
            except UserError:
                self._check_open(
                    settlement.job
                )  # peers refuse a job that is over: say that, not that they left
                raise
            self._view.note(f"round {number + 1}: aggregating {len(chosen)} updates")
            weights, state = await aggregator.step(number, chosen, model, state)
            loss, accuracy = await aggregator.evaluate(weights)
            following = self._global_model(weights)
            seconds = trio.current_time() - begun
            receipts = tuple(await runner.close(number))
            done = RoundDone(
                number, model.digest, following.digest, accuracy, loss, seconds, receipts,
                tuple(item.client for item in chosen), self._resumed, runner.paused > 0,
            )  # fmt: skip
            await self._keep(done, weights, state)
            self._resumed = False
            model = following
            await settlement.record(self._rounds)

    async def _round(
        self, number: int, model: GlobalModel, members: Members, runner: RoundRunner
    ) -> tuple[float, list[Receipted]]:
        """The time at which a round began and its updates.

        Raises:
            UserError: (code 12) too few peers; (code 16) it failed too often.
        """
        if chosen := self._store.chosen(number):  # the requester was killed while it aggregated
            return trio.current_time(), chosen
        spec = self._spec.peers
        deadline = auto_deadline(self._rounds) if spec.deadline == "auto" else spec.deadline
        for attempt in range(1, ATTEMPTS + 1):
            if self._view.state != "running" and len(members.ready) < spec.min:
                self._view.note(f"inviting peers for round {number + 1}")
            await members.gather()
            if self._view.state != "running":
                self._view.enter("running")
            self._view.note(
                f"round {number + 1}: {len(members.ready)} peers train {len(runner.clients(number))} clients"
            )
            begun = trio.current_time()  # waiting for peers is not the round's doing
            try:
                return begun, await runner.run(number, model, deadline)
            except RoundError as error:
                self._view.note(f"round {number + 1}, attempt {attempt} of {ATTEMPTS} failed: {error}")
                last = error
        raise UserError(
            f"round {number + 1} failed {ATTEMPTS} times: {last}",
            "see `p2pml job show`",
            ExitCode.ROUND_FAILED,
        )

    async def _keep(self, done: RoundDone, weights: bytes, state: bytes) -> None:
        """A finished round on disk: the model first, then the journal, which makes it count. From there on it
        is owed, so nothing may be waited for, and broken off, before it is among the rounds."""
        await self._store.save_model(done.number + 1, weights, state)
        await self._store.note_round(done)
        self._rounds.append(done)
        self._view.round_done(shown(done))
        await trio.to_thread.run_sync(self._store.drop_updates)
        every, keep = self._spec.checkpoint.every, self._spec.checkpoint.keep
        await trio.to_thread.run_sync(self._store.drop_models, done.number + 1, every, keep)

    def _check_open(self, job: bytes) -> None:
        """Raises UserError (code 17) when the chain takes no more rounds of the job: nobody would be paid."""
        state = self._parts.chain.job(job)
        if state is not None and not state.status.active:
            raise UserError(
                f"the job's deadline on the chain, slot {state.deadline_slot}, is over",
                "start it again with fewer rounds, or with a larger peers.deadline",
                ExitCode.TOO_LATE,
            )

    def _target_reached(self) -> bool:
        target = self._spec.rounds.target
        return target is not None and bool(self._rounds) and self._rounds[-1].accuracy >= target.value

    # -- after the last round --------------------------------------------------------------------------

    async def _settle(self, opening: Tx) -> None:
        self._view.enter("settling", self._stopped)
        if self._parts.chain.job(opening.id) is None:
            self._view.note("waiting until the job is in a block, or cannot get there any more")
            if not await opened(opening, self._parts.chain):
                return  # nothing was ever locked
        await self._record_what_is_owed()
        await self._settlement(opening.id).finish(self._rounds, self._view.note)

    async def _record_what_is_owed(self) -> None:
        """Receipts of a round that came to no end are owed too: a round that leaves the model as it was."""
        number = len(self._rounds)
        owed = [item.receipt for _, item in sorted(self._store.receipted(number).items())]
        if not owed or number >= self._spec.rounds.max:
            return
        last = self._rounds[-1] if self._rounds else None
        model = owed[0].commitment.model_in
        accuracy, loss = (last.accuracy, last.loss) if last else (0.0, 0.0)
        done = RoundDone(number, model, model, accuracy, loss, 0.0, tuple(owed), ())
        await self._store.note_round(done)
        self._rounds.append(done)

    async def _keep_result(self, prepared: Prepared, state: str, reason: str, end: str) -> str:
        """Write the result; returns the reason, with the result's trouble if any."""
        weights = await trio.to_thread.run_sync(self._store.newest_model, self._rounds)
        if weights is not None:
            facts = {
                **self._view.full(),
                "state": state,
                "end": end,
                "requester": address(self._parts.keys.public),
                "spec": self._spec.model_dump(mode="json"),
            }
            wanted = spec_path(self._base, self._spec.output.dir) / f"{self._spec.name}-{self._view.id}"
            result = Result(prepared.model, weights, self._rounds, facts, self._store.folder)
            place, reason = await trio.to_thread.run_sync(keep_result, result, wanted, reason)
            self._view.output = str(place)
        return reason

    async def _let_go(self) -> None:
        """Give back the disk that a job takes while it lasts; also where it failed before it was prepared."""
        if self._store.metainfo_file.exists():
            await self._parts.data.forget(self._store.metainfo_file.read_bytes(), delete=False)
        await trio.to_thread.run_sync(self._store.drop_shards)
        await trio.to_thread.run_sync(self._store.drop_updates)
