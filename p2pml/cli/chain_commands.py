"""`p2pml chain …`: look at the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import columns, emit, emit_json, fields, say, short, tokens
from p2pml.client import NodeClient
from p2pml.home import Home

group = typer.Typer(help="Look at the chain: blocks, transactions, validators.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="chain")


@group.command("head")
def head(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """The newest block that this node follows."""
    with NodeClient(Home.locate(home)) as node:
        blocks = node.get("/blocks", count=1)
    if as_json:
        emit_json(blocks[-1] if blocks else None)
    elif blocks:
        emit(describe_block(blocks[-1]))
    else:
        say("there is no block yet")


@group.command("show")
def show(
    block: Annotated[
        str | None, typer.Argument(help="a block's id or height; default: the last blocks")
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=500, help="how many of the last blocks")
    ] = 10,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """One block in full, or the last ones in a table."""
    with NodeClient(Home.locate(home)) as node:
        answer = node.get(f"/blocks/{block}") if block else node.get("/blocks", count=count)
    if as_json:
        emit_json(answer)
    elif block:
        emit(describe_block(answer))
    else:
        rows = [
            (
                item["height"],
                item["slot"],
                item["proposer_name"] or short(item["proposer"]),
                item["rank"],
                len(item["transactions"]),
                len(item["rounds"]),
                item["votes"],
                "yes" if item["final"] else "no",
                item["id"][:16],
            )
            for item in answer
        ]
        emit(
            columns(
                ("HEIGHT", "SLOT", "PROPOSER", "RANK", "TX", "ROUNDS", "VOTES", "FINAL", "ID"),
                rows,
                right=(0, 1, 3, 4, 5, 6),
            )
        )


@group.command("tx")
def transaction(
    tx_id: Annotated[str, typer.Argument(help="the transaction's id")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """One transaction, in a block or waiting for one."""
    with NodeClient(Home.locate(home)) as node:
        answer = node.get(f"/transactions/{tx_id}")
    if as_json:
        emit_json(answer)
        return
    where = "waiting for a block" if answer["height"] is None else f"block {answer['height']}"
    emit(
        fields(
            [
                ("id", answer["id"]),
                ("type", answer["type"]),
                ("in", where),
                ("sender", answer["sender"]),
                ("fee", tokens(answer["fee"])),
                *((key, _payload_value(key, value)) for key, value in answer["payload"].items()),
            ]
        )
    )


@group.command("validators")
def validators(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Who may propose blocks and vote, with what chance or weight."""
    with NodeClient(Home.locate(home)) as node:
        answer = node.get("/validators")
    if as_json:
        emit_json(answer)
        return
    richest = any(item["selection"] == "richest" for item in answer)
    rows = [
        (
            item["name"],
            tokens(item["rating"]) if richest else item["rating"],
            f"{item['share']:.1%}",
            tokens(item["bond"]),
            tokens(item["vesting"]),
            item["barred_epochs"] or "",
            item["expires_epochs"] or "",
            item["address"],
        )
        for item in answer
    ]
    weighed = ("TOKENS", "VOTES") if richest else ("RATING", "CHANCE")
    headers = ("NAME", *weighed, "BOND", "VESTING", "BARRED", "EXPIRES", "ACCOUNT")
    emit(columns(headers, rows, right=range(1, 7)))


@group.command("supply")
def supply(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """The chain's books: every token accounted for."""
    with NodeClient(Home.locate(home)) as node:
        answer = node.get("/supply")
    if as_json:
        emit_json(answer)
        return
    names = ("genesis", "issued", "burned", "balances", "escrow", "bonds", "vesting")
    emit(fields([(name, tokens(answer[name])) for name in names]))
    equal = "yes" if answer["adds_up"] else "NO"
    emit(f"balances + escrow + bonds + vesting = genesis + issued − burned: {equal}")


@group.command("checkpoint")
def checkpoint(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """The newest final block as HEIGHT:BLOCK_ID:STATE_ROOT, for `p2pml daemon --checkpoint` elsewhere.

    Whoever begins there trusts this node for everything up to that block. Peers keep the state for some
    hundred blocks and about two epochs, so use it soon.
    """
    with NodeClient(Home.locate(home)) as node:
        answer = node.get("/checkpoint")
    if as_json:
        emit_json(answer)
    else:
        emit(answer["text"])


def describe_block(block: dict[str, Any]) -> str:
    """A block in full, as text."""
    when = datetime.fromtimestamp(block["timestamp_ms"] / 1000, UTC).isoformat(timespec="milliseconds")
    lines = fields(
        [
            ("height", block["height"]),
            ("id", block["id"]),
            ("previous", block["previous"]),
            ("slot", f"{block['slot']} ({when})"),
            ("proposer", f"{block['proposer_name']} {block['proposer']}".strip()),
            ("rank", block["rank"]),
            ("target", block["target"]),
            ("state before", block["state_root"]),
            ("votes", block["votes"]),
            ("final", "yes" if block["final"] else "not yet"),
        ]
    )
    transactions = [
        f"  {item['type']} {item['id'][:16]} from {short(item['sender'], 14)} fee {tokens(item['fee'])}"
        for item in block["transactions"]
    ]
    rounds = [
        f"  round {item['round']} of job {item['job'][:16]}: accuracy {item['accuracy_ppm'] / 1e6:.3f}, "
        f"{item['samples']} samples, {item['receipts']} receipts"
        for item in block["rounds"]
    ]
    return "\n".join(
        [
            lines,
            f"transactions: {len(transactions)}",
            *transactions,
            f"training rounds: {len(rounds)}",
            *rounds,
        ]
    )


def _payload_value(key: str, value: Any) -> Any:
    return tokens(value) if key in ("amount", "budget", "price") and isinstance(value, int) else value
