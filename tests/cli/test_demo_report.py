"""Adding up a network's blocks by account."""

from __future__ import annotations

from typing import Any

from p2pml.cli.demo_report import Ledger

A, B, C = "pml1a", "pml1b", "pml1c"


def block(proposer: str, *transactions: dict[str, Any], voters: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"proposer": proposer, "transactions": list(transactions), "rounds": [], "voters": voters}


def tx(kind: str, sender: str, fee: int, **payload: Any) -> dict[str, Any]:
    return {"id": f"{kind}-id", "type": kind, "sender": sender, "fee": fee, "payload": payload}


def test_rewards_fees_payments_and_pay_for_training() -> None:
    ledger = Ledger({A: "a", B: "b"}, 40, 20, {A: 1, B: 2})
    ledger.add(block(A))
    ledger.add(block(B, tx("transfer", A, 1, to=B, amount=10), tx("job_open", A, 2, price=3, budget=100)))
    receipts = [{"trainer": B, "samples": 5}, {"trainer": C, "samples": 4}]
    ledger.add(block(A, tx("job_settle", A, 1, job="job_open-id", receipts=receipts), voters=(A, B)))
    a, b, c = (ledger.accounts[address] for address in (A, B, C))
    assert (a.blocks, a.from_blocks, a.spent) == (2, 81, 1 + 10 + 2 + 100 + 1)
    assert (b.blocks, b.from_blocks, b.training, b.samples, b.spent) == (1, 43, 15, 5, -10)
    assert (c.training, c.name) == (12, "pml1c")
    assert (a.from_votes, b.from_votes, c.from_votes) == (6, 13, 0)
    ledger.settle_refunds(escrow=5)
    assert a.spent == 114, "while a job is open its rest is not back"
    ledger.settle_refunds(escrow=0)
    assert a.spent == 114 - (100 - 27)


def test_pay_never_exceeds_the_budget() -> None:
    ledger = Ledger({A: "a", B: "b"}, 0, 0, {A: 1})
    receipts = [{"trainer": B, "samples": 5}, {"trainer": B, "samples": 5}]
    ledger.add(block(A, tx("job_open", A, 0, price=3, budget=20)))
    ledger.add(block(A, tx("job_claim", B, 0, job="job_open-id", receipts=receipts)))
    assert ledger.accounts[B].training == 20
