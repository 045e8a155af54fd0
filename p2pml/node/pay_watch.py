"""Whether a job's requester pays as it goes: what its trainer looks at before each task.

A requester that means to cheat can settle receipts of its own making first, until the escrow is empty. So a
trainer works on only while it is paid: `settle_every` rounds after a round, that round has to be paid within
a few slots. Later than that the trainer waits, and refuses once blocks have come for long enough without its
pay. While the chain itself stands still it only waits; on an idle chain the next heartbeat shows that it
does not. Whom a block paid for this trainer's work is looked at too: a requester may have countersigned the
same work for a second account of its own and settled that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pml.node.claims import Claims
from p2pml.node.ports import ChainPort

SETTLE_SLOTS = 8
"""Slots from the round in which a payment became due until the trainer stops for it: a block for the round's
record, a block for the settlement, and some that were missed."""
ALIVE_SLOTS = 16
"""Slots from the same moment after which a block shows that the chain goes on. The trainer refuses
`SETTLE_SLOTS` later: a chain that stood still, and goes on now, has time to take the settlement."""


@dataclass(slots=True)
class PayWatch:
    """What one job owes this node, over all conversations about it.

    Args:
        chain: to look at.
        claims: this node's receipts.
        job: 32-byte id.
        settle_every: rounds that may go by before a round is paid.
    """

    chain: ChainPort
    claims: Claims
    job: bytes
    settle_every: int
    _begun: dict[int, int] = field(default_factory=dict)
    _alive: tuple[int, int] | None = None
    """The oldest unpaid round, and the slot in which the chain was seen to go on without paying it."""
    _diverted: int | None = None
    """The oldest round in which another account was paid for this node's work."""

    async def look(self) -> None:
        """See in the blocks here who was paid, for `late` and `refusal`."""
        job = self.chain.job(self.job)
        if job is not None and job.price:
            self._diverted = await self.claims.diverted(self.job)

    def began(self, round_: int) -> None:
        """Take note that a task of this round was given."""
        self._begun.setdefault(round_, self.chain.slot_now())

    def owed(self) -> int:
        """Samples of all receipts that are not paid yet."""
        return sum(self.claims.unpaid(self.job).values())

    def late(self) -> bool:
        """Whether a payment is overdue, or went to another account: no more work now."""
        if self._diverted is not None:
            return True
        due = self._due()
        return due is not None and self.chain.slot_now() > due[1] + SETTLE_SLOTS

    def refusal(self) -> str:
        """Why there will be no more work; empty while there may."""
        if self._diverted is not None:
            return f"round {self._diverted + 1} of this job was paid to another account"
        due = self._due()
        if due is None or self.chain.head_slot() < due[1] + ALIVE_SLOTS:
            return ""
        if self._alive is None or self._alive[0] != due[0]:
            self._alive = (due[0], self.chain.slot_now())
        late = self.chain.slot_now() - due[1]
        if self.chain.slot_now() < self._alive[1] + SETTLE_SLOTS:
            return ""
        return f"round {due[0] + 1} of this job has not been paid, {late} slots after it was due"

    def _due(self) -> tuple[int, int] | None:
        """The oldest unpaid round that should be paid, and the slot from which that was so."""
        job = self.chain.job(self.job)
        if job is None or not job.price:  # its block was reverted and comes again; or nobody is paid
            return None
        unpaid = [round_ for round_, _ in self.claims.unpaid(self.job)]
        if not unpaid:
            self._begun = {max(self._begun): self._begun[max(self._begun)]} if self._begun else {}
            return None
        oldest = min(unpaid)
        since = [number for number in self._begun if number >= oldest + self.settle_every]
        return (oldest, self._begun[min(since)]) if since else None
