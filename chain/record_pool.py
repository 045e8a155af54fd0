"""Round records that wait for a block: at most one per job and round, bounded in number.

A full pool takes a record only from a job with fewer of them than another one has, which loses its last.
"""

from __future__ import annotations

from chain.draft import Draft
from chain.errors import InvalidRecord, PoolFull
from chain.state import State
from chain.training_records import RoundRecord
from chain.transition import apply_record

MAX_RECORDS = 4096
MAX_AHEAD = 256
"""How far a record may run ahead of its job's next round."""


class RecordPool:
    """Waiting records by job and round."""

    def __init__(self, max_records: int = MAX_RECORDS) -> None:
        self._max_records = max_records
        self._jobs: dict[bytes, dict[int, RoundRecord]] = {}

    def __len__(self) -> int:
        return sum(len(rounds) for rounds in self._jobs.values())

    def records(self) -> tuple[RoundRecord, ...]:
        """All of them, job by job in round order."""
        return tuple(rounds[number] for rounds in self._jobs.values() for number in sorted(rounds))

    def add(self, record: RoundRecord, state: State) -> bool:
        """Take a record; False if it waits here already. Raises InvalidRecord or PoolFull."""
        known = self._jobs.get(record.job, {}).get(record.round)
        if known == record:
            return False
        if known is not None:
            raise InvalidRecord(f"another record of round {record.round} waits already")
        job = state.job(record.job)
        if job is None or not job.status.active:
            raise InvalidRecord("the record's job does not exist or takes no more rounds")
        if not job.next_round <= record.round < min(job.rounds, job.next_round + MAX_AHEAD):
            raise InvalidRecord(f"round {record.round} is not ahead of the job's {job.next_round}")
        if not record.verify(job.requester):
            raise InvalidRecord("the record is not signed by the job's requester")
        if len(self) >= self._max_records:
            self._make_room(record.job)
        self._jobs.setdefault(record.job, {})[record.round] = record
        return True

    def _make_room(self, job: bytes) -> None:
        """Records ahead of their job may wait for ever: whoever has most of them gives way."""
        fullest = max(self._jobs, key=lambda other: len(self._jobs[other]))
        rounds = self._jobs[fullest]
        if len(rounds) <= len(self._jobs.get(job, {})) + 1:
            raise PoolFull("the pool of waiting round records is full")
        del rounds[max(rounds)]

    def select(self, draft: Draft, limit: int) -> tuple[RoundRecord, ...]:
        """Apply to the draft, job by job in round order, what applies; at most `limit` records."""
        chosen: list[RoundRecord] = []
        for job_id in sorted(self._jobs):
            job = draft.job(job_id)
            round_ = job.next_round if job else -1
            while len(chosen) < limit and (record := self._jobs[job_id].get(round_)) is not None:
                try:
                    apply_record(draft, record)
                except InvalidRecord:
                    break
                chosen.append(record)
                round_ += 1
        return tuple(chosen)

    def on_head(self, state: State) -> None:
        """Forget records that are on the chain, cannot follow it, or whose job is over."""
        for job_id in tuple(self._jobs):
            job = state.job(job_id)
            rounds = self._jobs[job_id]
            if job is None or not job.status.active:
                del self._jobs[job_id]
                continue
            for round_ in tuple(rounds):
                wrong = round_ == job.next_round and rounds[round_].model_in != job.model
                if round_ < job.next_round or wrong:
                    del rounds[round_]
            if not rounds:
                del self._jobs[job_id]
