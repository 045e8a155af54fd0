"""Who earned what: a network's blocks read from one node and added up by account."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from p2pml.cli.chain_files import own_chain
from p2pml.client import NodeClient
from p2pml.home import Home

if TYPE_CHECKING:
    from p2pml.node.chain_income import Income

PAGE = 200


@dataclass(slots=True)
class Account:
    """One account's part of the story, in base units; `spent` is fees and budgets, less what came back."""

    address: str
    name: str
    blocks: int = 0
    from_blocks: int = 0
    from_votes: int = 0
    from_audits: int = 0
    training: int = 0
    samples: int = 0
    spent: int = 0
    balance: int = 0
    vesting: int = 0


@dataclass(slots=True)
class Report:
    """The books of a network up to one block.

    `explained` tells whether every balance, with what is vesting, is exactly what the blocks say;
    `adds_up` is the chain's own sum.
    """

    accounts: list[Account]
    height: int
    escrow: int
    issued: int
    adds_up: bool
    explained: bool
    rounds: int
    last_accuracy: float | None


def make_report(node: NodeClient, home: Home, names: dict[str, str], allocation: int) -> Report:
    """Read the whole chain of a node and add it up.

    Args:
        node: a connected client.
        home: of that node.
        names: by address, of the accounts to report on.
        allocation: base units that each of them had at the start.
    """
    from p2pml.node.chain_income import incomes

    while True:
        height = node.get("/status")["head"]["height"]
        accounts = {address: node.get(f"/accounts/{address}") for address in names}
        supply = node.get("/supply")
        blocks = list(_all_blocks(node, height))
        with own_chain(home) as (genesis, db):
            stored = list(db.best_branch())
        if [block["id"] for block in blocks] == [block.block_id.hex() for block in stored]:
            break  # no block came in between: balances and blocks are of the same moment
    ledger = Ledger(names)
    for block, income in zip(blocks, incomes(genesis, stored), strict=True):
        ledger.add(block, income)
    for address, record in ledger.accounts.items():
        record.balance, record.vesting = accounts[address]["balance"], accounts[address]["vesting"]
    ledger.settle_refunds(supply["escrow"])
    rounds = [item for block in blocks for item in block["rounds"]]
    return Report(
        accounts=list(ledger.accounts.values()),
        height=height,
        escrow=supply["escrow"],
        issued=supply["issued"],
        adds_up=supply["adds_up"],
        explained=all(
            item.balance + item.vesting
            == allocation
            + (item.from_blocks + item.from_votes + item.from_audits + item.training - item.spent)
            for item in ledger.accounts.values()
        ),
        rounds=len(rounds),
        last_accuracy=rounds[-1]["accuracy_ppm"] / 1e6 if rounds else None,
    )


@dataclass(slots=True)
class Job:
    """What a JOB_OPEN promised, and what was paid of it so far."""

    requester: str
    price: int
    budget: int
    paid: int = 0


@dataclass(slots=True)
class Ledger:
    """Adds blocks up by account, from what they contain and what they issued.

    Args:
        names: by address.
    """

    names: dict[str, str]
    accounts: dict[str, Account] = field(init=False)
    jobs: dict[str, Job] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.accounts = {address: Account(address, name) for address, name in self.names.items()}

    def add(self, block: dict[str, Any], income: Income) -> None:
        """Take the next block in."""
        from chain import address

        proposer = self._account(block["proposer"])
        proposer.blocks += 1
        proposer.from_blocks += sum(transaction["fee"] for transaction in block["transactions"])
        for public, amount in income.proposer.items():
            self._account(address.encode(public)).from_blocks += amount
        for public, amount in income.votes.items():
            self._account(address.encode(public)).from_votes += amount
        for public, amount in income.audits.items():
            self._account(address.encode(public)).from_audits += amount
        for transaction in block["transactions"]:
            self._add_transaction(transaction)

    def settle_refunds(self, escrow: int) -> None:
        """Once the chain holds nothing in escrow, what jobs did not spend has gone back to their
        requesters.
        """
        if escrow:
            return
        for job in self.jobs.values():
            self._account(job.requester).spent -= job.budget - job.paid

    def _add_transaction(self, transaction: dict[str, Any]) -> None:
        payload, sender = transaction["payload"], self._account(transaction["sender"])
        sender.spent += transaction["fee"]
        if transaction["type"] == "transfer":
            sender.spent += payload["amount"]
            self._account(payload["to"]).spent -= payload["amount"]
        elif transaction["type"] == "job_open":
            sender.spent += payload["budget"]
            self.jobs[transaction["id"]] = Job(transaction["sender"], payload["price"], payload["budget"])
        elif transaction["type"] in ("job_settle", "job_claim"):
            self._pay(self.jobs[payload["job"]], payload["receipts"])

    def _pay(self, job: Job, receipts: Sequence[dict[str, Any]]) -> None:
        for receipt in receipts:
            trainer = self._account(receipt["trainer"])
            amount = min(receipt["samples"] * job.price, job.budget - job.paid)
            trainer.training += amount
            trainer.samples += receipt["samples"]
            job.paid += amount

    def _account(self, address: str) -> Account:
        return self.accounts.setdefault(address, Account(address, address[:12]))


def _all_blocks(node: NodeClient, height: int) -> Iterable[dict[str, Any]]:
    first = 1
    while first <= height:
        page = node.get("/blocks", first=first, count=PAGE)
        if not page:
            return
        yield from page
        first = page[-1]["height"] + 1
