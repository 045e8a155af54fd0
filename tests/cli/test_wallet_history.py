"""What a transaction means for one account."""

from __future__ import annotations

from typing import Any

from p2pml.cli.wallet_commands import _history_row

ME, OTHER = "pml1me", "pml1other"
TOKEN = 10**8


def row(kind: str, sender: str, **payload: Any) -> tuple[object, ...]:
    item = {
        "id": "ab" * 32,
        "type": kind,
        "sender": sender,
        "fee": TOKEN // 10,
        "height": 7,
        "payload": payload,
    }
    return _history_row(item, ME)[:5]


def test_payments_have_their_direction() -> None:
    assert row("transfer", ME, to=OTHER, amount=TOKEN) == (7, "transfer", "-1", "0.1", OTHER)
    assert row("transfer", OTHER, to=ME, amount=TOKEN) == (7, "transfer", "+1", "0.1", OTHER)


def test_training_brings_what_ones_own_receipts_say() -> None:
    receipts = [
        {"trainer": ME, "amount": TOKEN},
        {"trainer": OTHER, "amount": 5},
        {"trainer": ME, "amount": TOKEN},
    ]
    assert row("job_settle", OTHER, receipts=receipts) == (7, "job_settle", "+2", "0.1", OTHER)
    assert row("job_settle", ME, receipts=receipts[1:2]) == (7, "job_settle", "", "0.1", "")


def test_opening_a_job_locks_its_budget() -> None:
    assert row("job_open", ME, budget=5 * TOKEN) == (7, "job_open", "-5", "0.1", "")
