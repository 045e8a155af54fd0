"""Whether a job's requester pays as it goes: what its trainer looks at before each task.

A requester that means to cheat can settle receipts of its own making first, until the escrow is empty. So a
trainer works on only while it is paid: `settle_every` rounds after a round, that round has to be paid within
a few slots. Later than that the trainer waits, and after some more blocks without its pay it refuses. While
the chain itself stands still it only waits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pml.node.claims import Claims
from p2pml.node.ports import ChainPort

SETTLE_SLOTS = 8
"""Slots from the round in which a payment became due until the trainer stops for it: a block for the round's
record, a block for the settlement, and some that were missed."""
GIVE_UP_BLOCKS = 24
"""Blocks, from the same moment, until the trainer refuses."""


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
    _begun: dict[int, tuple[int, int]] = field(default_factory=dict)

    def began(self, round_: int) -> None:
        """Take note that a task of this round was given."""
        self._begun.setdefault(round_, (self.chain.slot_now(), self.chain.height()))

    def owed(self) -> int:
        """Samples of all receipts that are not paid yet."""
        return sum(self.claims.unpaid(self.job).values())

    def late(self) -> bool:
        """Whether a payment is overdue: no more work now."""
        due = self._due()
        return due is not None and self.chain.slot_now() > due[1] + SETTLE_SLOTS

    def refusal(self) -> str:
        """Why there will be no more work; empty while there may."""
        due = self._due()
        if due is None or not self.late() or self.chain.height() < due[2] + GIVE_UP_BLOCKS:
            return ""
        return f"round {due[0] + 1} of this job has not been paid, {GIVE_UP_BLOCKS} blocks after it was due"

    def _due(self) -> tuple[int, int, int] | None:
        """The oldest unpaid round that should be paid, and the slot and height at which that was so."""
        job = self.chain.job(self.job)
        if job is None or not job.price:  # its block was reverted and comes again; or nobody is paid
            return None
        unpaid = [round_ for round_, _ in self.claims.unpaid(self.job)]
        if not unpaid:
            self._begun = {max(self._begun): self._begun[max(self._begun)]} if self._begun else {}
            return None
        oldest = min(unpaid)
        since = [number for number in self._begun if number >= oldest + self.settle_every]
        return (oldest, *self._begun[min(since)]) if since else None
