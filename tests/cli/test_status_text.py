"""What `p2pml status` says about a chain that is silent because nothing waits for a block."""

from __future__ import annotations

from typing import Any

import pytest

from p2pml.cli.node_commands import describe

STATUS: dict[str, Any] = {
    "name": "n1", "pid": 1, "uptime_s": 2.0, "peer_id": "12D3", "addresses": [], "account": "p2",
    "balance": 0, "rating": 1, "network": "net", "chain_id": "ab" * 32, "slot": 100, "slot_ms": 12_000,
    "worker": "ready", "worker_reason": "", "datasets": 0, "jobs_running": 0, "clock_ms": None,
    "head": {"height": 9, "id": "cd" * 32, "slot": 30, "final_height": 7}, "heartbeat_slot": 124,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "final up to 7, 840 s ago: idle, next heartbeat in 288 s"),
        ({"slot": 126}, "final up to 7, 1152 s ago: idle, next heartbeat in 0 s"),
        ({"slot": 31}, "final up to 7"),
        ({"heartbeat_slot": None}, "final up to 7"),
    ],
)
def test_status_says_why_no_block_came(changes: dict[str, Any], words: str) -> None:
    head = next(line for line in describe({**STATUS, **changes}, []).splitlines() if line.startswith("head"))
    assert head.endswith(words)
