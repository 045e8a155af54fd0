"""What `p2pml train --dry-run` prints."""

from __future__ import annotations

from typing import Any

from p2pml.cli.output import columns, fields, tokens


def describe_quote(quote: dict[str, Any]) -> str:
    """A quote of the API as text for people."""
    here, needed = len(quote["peers"]), quote["needed"]
    missing = f"; {needed - here} more must come before it can begin" if here < needed else ""
    lines: list[tuple[str, Any]] = [
        ("job", quote["name"]),
        ("peers", f"{here} would be invited now, {needed} are needed{missing}"),
        ("rounds", f"{quote['rounds']} at most"),
    ]
    lines += _data(quote)
    lines += _money(quote)
    rows = [
        (peer["name"] or peer["peer"], peer["rating"], "busy" if peer["busy"] else "free")
        for peer in quote["peers"]
    ]
    table = columns(("PEER", "RATING", "STATE"), rows, right=(1,))
    return "\n\n".join([fields(lines), table] if rows else [fields(lines)])


def _data(quote: dict[str, Any]) -> list[tuple[str, Any]]:
    if quote["unknown"]:
        return [("sizes", f"not known yet: {quote['unknown']}")]
    clients = quote["clients"] or "as many as peers will be there"
    return [
        ("model", f"{quote['params']:,} parameters"),
        ("data", f"{quote['samples']:,} samples to train on, logical clients: {clients}"),
        ("task", f"at most {quote['steps']:,} steps of one client in one round"),
        ("shards", f"{_size(quote['shards'])} before the first round, to all peers together"),
        ("traffic", f"{_size(quote['per_round'])} a round, down and up, with all peers together"),
    ]


def _money(quote: dict[str, Any]) -> list[tuple[str, Any]]:
    budget, fees, balance = quote["budget"], quote["fees"], quote["balance"]
    every = quote["settle_every"]
    lines: list[tuple[str, Any]] = []
    if budget:
        price = f", {tokens(quote['price'])} a sample and epoch" if quote["price"] else ""
        paid = "after every round" if every == 1 else f"every {every} rounds"
        lines.append(("reward", f"{tokens(budget)} tokens at most{price}, paid {paid}"))
    else:
        lines.append(("reward", "none"))
    lines.append(("fees", f"about {tokens(fees)} tokens at most"))
    enough = "" if balance >= budget + fees else ": not enough"
    lines.append(("balance", f"{tokens(balance)} tokens{enough}"))
    return lines


def _size(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 1024:,.1f} KiB"
