"""Adding up a network's blocks by account."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chain import address
from chain.types import Block
from p2pml.cli.demo import describe_report
from p2pml.cli.demo_report import Ledger, make_report
from p2pml.home import Home
from p2pml.node.chain_income import Income
from p2pml.node.chain_views import block_view, supply_view
from p2pml.storage.chain_db import ChainDb
from tests.chain.conftest import World
from tests.node.test_chain_income import audited, blocks_of

A, B, C = (address.encode(bytes([number]) * 32) for number in (1, 2, 3))


class Api:
    """A node's answers about a chain that stands still."""

    def __init__(self, world: World, blocks: list[Block]) -> None:
        self._state = world.state
        self._blocks = [asdict(block_view(block, world.state, lambda job: 0, True)) for block in blocks]

    def get(self, path: str, **query: Any) -> Any:
        match path.strip("/").split("/"):
            case ["status"]:
                return {"head": {"height": self._state.height}}
            case ["supply"]:
                return asdict(supply_view(self._state))
            case ["accounts", who]:
                public = address.decode(who)
                vesting = self._state.vesting(public).held
                return {"balance": self._state.account(public).balance, "vesting": vesting}
            case ["blocks"]:
                first = query["first"] - 1
                return self._blocks[first : first + query["count"]]
        raise AssertionError(path)


def block(proposer: str, *transactions: dict[str, Any], voters: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"proposer": proposer, "transactions": list(transactions), "rounds": [], "voters": voters}


def tx(kind: str, sender: str, fee: int, **payload: Any) -> dict[str, Any]:
    return {"id": f"{kind}-id", "type": kind, "sender": sender, "fee": fee, "payload": payload}


def earned(proposer: int = 0, votes: dict[str, int] | None = None) -> Income:
    """By all accounts at once: the first has the proposer's reward."""
    by_key = {address.decode(who): amount for who, amount in (votes or {}).items()}
    return Income({address.decode(A): proposer}, by_key, {address.decode(B): 5})


def test_rewards_fees_payments_and_pay_for_training() -> None:
    ledger = Ledger({A: "a", B: "b"})
    nothing = Income({}, {}, {})
    ledger.add(block(A), nothing)
    transfer, opened = tx("transfer", A, 1, to=B, amount=10), tx("job_open", A, 2, price=3, budget=100)
    ledger.add(block(B, transfer, opened), nothing)
    receipts = [{"trainer": B, "samples": 5}, {"trainer": C, "samples": 4}]
    settled = tx("job_settle", A, 1, job="job_open-id", receipts=receipts)
    ledger.add(block(A, settled), earned(40, {A: 6, B: 13}))
    a, b, c = (ledger.accounts[address] for address in (A, B, C))
    assert (a.blocks, a.from_blocks, a.spent) == (2, 41, 1 + 10 + 2 + 100 + 1)
    assert (b.blocks, b.from_blocks, b.training, b.samples, b.spent) == (1, 3, 15, 5, -10)
    assert (c.training, c.name) == (12, C[:12])
    assert (a.from_votes, b.from_votes, c.from_votes) == (6, 13, 0)
    assert (a.from_audits, b.from_audits) == (0, 5)
    ledger.settle_refunds(escrow=5)
    assert a.spent == 114, "while a job is open its rest is not back"
    ledger.settle_refunds(escrow=0)
    assert a.spent == 114 - (100 - 27)


def test_pay_never_exceeds_the_budget() -> None:
    ledger = Ledger({A: "a", B: "b"})
    receipts = [{"trainer": B, "samples": 5}, {"trainer": B, "samples": 5}]
    ledger.add(block(A, tx("job_open", A, 0, price=3, budget=20)), Income({}, {}, {}))
    ledger.add(block(A, tx("job_claim", B, 0, job="job_open-id", receipts=receipts)), Income({}, {}, {}))
    assert ledger.accounts[B].training == 20


def test_the_books_of_a_network_with_rating_windows(tmp_path: Path) -> None:
    """Its real blocks, as the API gives them and as they lie on the disk."""
    world = audited(2)
    home = Home(tmp_path)
    home.genesis_file.write_text(world.genesis.to_json(), encoding="utf-8")
    blocks = blocks_of(world)
    with closing(ChainDb(home.chain_db, world.genesis.chain_id)) as db:
        db.commit(blocks, applied=blocks)
    names = {address.encode(keys.public): f"v{i}" for i, keys in enumerate(world.validators)}
    report = make_report(Api(world, blocks), home, names, 0)  # type: ignore[arg-type]  # what it asks a client
    assert report.explained
    assert report.adds_up
    assert all(account.from_audits > 0 for account in report.accounts)
    assert sum(account.blocks for account in report.accounts) == report.height == world.state.height
    assert "FROM AUDITS" in describe_report(report)
    for account in report.accounts:
        account.from_audits = 0
    assert "FROM AUDITS" not in describe_report(report)
