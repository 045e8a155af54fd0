"""`p2pml wallet …`: keys of your own, balances, payments. Transactions are signed here, never by the
daemon.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated, Any

import typer

from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import columns, emit, emit_json, parse_tokens, say, short, tokens
from p2pml.client import NodeClient
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home

NODE_WALLET = "node"
VALID_SLOTS = 100
"""A payment that found no block within so many slots will never be paid."""
WAIT_S = 120.0

group = typer.Typer(help="Wallets: make one, see its balance, send tokens.", no_args_is_help=True)

WalletArgument = Annotated[
    str, typer.Argument(help=f"a wallet's name, `{NODE_WALLET}` for the node's own account, or any address")
]


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="wallet")


@group.command("new")
def new(name: str, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Make a wallet, encrypted under a passphrase (asked for, or taken from P2PML_PASSPHRASE)."""
    from p2pml.storage.keystore import Keystore

    wallet = Keystore(Home.locate(home).keystore).create(name, _passphrase(name, confirm=True))
    if as_json:
        emit_json({"name": wallet.name, "address": wallet.address})
    else:
        emit(wallet.address)
        say("its tokens are lost with its file or its passphrase: keep copies of both")


@group.command("ls")
def ls(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """The wallets of this home, and the node's own account."""
    from p2pml.storage.keystore import Keystore

    place = Home.locate(home)
    rows = [(wallet.name, wallet.address) for wallet in Keystore(place.keystore).list()]
    if place.validator_key.exists():
        rows.insert(0, (NODE_WALLET, _resolve(place, NODE_WALLET)))
    if as_json:
        emit_json([{"name": name, "address": address} for name, address in rows])
    else:
        emit(columns(("NAME", "ADDRESS"), rows))


@group.command("balance")
def balance(
    wallet: WalletArgument = NODE_WALLET, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """How many tokens an account has, and how many of its rewards are not free yet."""
    place = Home.locate(home)
    with NodeClient(place) as node:
        account = node.get(f"/accounts/{_resolve(place, wallet)}")
    if as_json:
        emit_json(
            {
                key: account[key]
                for key in ("address", "balance", "vesting", "vesting_epochs", "nonce", "rating")
            }
        )
    else:
        emit(tokens(account["balance"]))
        if account["vesting"]:
            epochs = account["vesting_epochs"]
            emit(f"{tokens(account['vesting'])} vesting: free bit by bit within {epochs} finalized epochs")


@group.command("history")
def history(
    wallet: WalletArgument = NODE_WALLET, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """The transactions of an account, the newest last."""
    place = Home.locate(home)
    with NodeClient(place) as node:
        account = node.get(f"/accounts/{_resolve(place, wallet)}")
    if as_json:
        emit_json(account["transactions"])
        return
    rows = [_history_row(item, account["address"]) for item in account["transactions"]]
    emit(columns(("BLOCK", "TYPE", "AMOUNT", "FEE", "WITH", "ID"), rows, right=(0, 2, 3)))


@group.command("send")
def send(
    to: Annotated[str, typer.Argument(help="address or wallet name of the receiver")],
    amount: Annotated[str, typer.Argument(help="tokens")],
    source: Annotated[str, typer.Option("--from", help="wallet that pays")] = NODE_WALLET,
    fee: Annotated[str | None, typer.Option("--fee", help="tokens; default: the network's minimum")] = None,
    memo: Annotated[str, typer.Option("--memo", help="up to 64 bytes that everybody can read")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="until it is in a block")] = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a payment here and hand it to the node."""
    place = Home.locate(home)
    receiver, units = _resolve(place, to), parse_tokens(amount)
    with NodeClient(place) as node:
        transaction = _sign(node, place, source, receiver, units, fee, memo)
        tx_id = node.post("/transactions", {"transaction": transaction.hex()})["id"]
        say(f"sent {tokens(units)} tokens to {receiver}, transaction {tx_id}")
        result = _wait_included(node, tx_id) if wait else {"id": tx_id, "height": None}
    if as_json:
        emit_json(result)
    else:
        emit(tx_id if result["height"] is None else f"{tx_id} in block {result['height']}")


def _sign(
    node: NodeClient, home: Home, source: str, receiver: str, units: int, fee: str | None, memo: str
) -> bytes:
    from chain import address
    from chain.crypto import Keypair
    from chain.errors import ChainError
    from chain.transactions import Transfer, sign_tx
    from p2pml.node.genesis_file import read_genesis

    genesis = read_genesis(home.genesis_file)
    keypair = Keypair.from_seed(unlock(home, source))
    account = node.get(f"/accounts/{address.encode(keypair.public)}")
    fee_units = genesis.params.min_fee if fee is None else parse_tokens(fee)
    if account["balance"] < units + fee_units:
        raise UserError(
            f"{source!r} has {tokens(account['balance'])} tokens, "
            f"{tokens(units)} and the fee of {tokens(fee_units)} are needed",
            "send less, or from another wallet with --from",
        )
    try:
        transaction = sign_tx(
            keypair,
            genesis.chain_id,
            Transfer(address.decode(receiver), units, memo),
            nonce=account["next_nonce"],
            valid_until_slot=node.get("/status")["slot"] + VALID_SLOTS,
            fee=fee_units,
        )
    except ChainError as error:
        raise UserError(str(error), "", ExitCode.USAGE) from error
    return transaction.encode()


def _wait_included(node: NodeClient, tx_id: str) -> dict[str, Any]:
    """Poll until the transaction is in a block.

    Raises:
        UserError: (code 5) not within `WAIT_S`.
    """
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        found: dict[str, Any] = node.get(f"/transactions/{tx_id}")
        if found["height"] is not None:
            return found
        time.sleep(0.2)
    raise UserError(
        f"the transaction {tx_id} is in no block after {WAIT_S:.0f} s",
        f"look again with `p2pml chain tx {tx_id}`: it may still be included",
        ExitCode.NETWORK,
    )


def _resolve(home: Home, wallet: str) -> str:
    """The address of a wallet's name, of `node`, or of an address itself."""
    from chain import address
    from p2pml.storage.keystore import Keystore

    if wallet == NODE_WALLET:
        from chain.crypto import Keypair
        from p2pml.identity import NodeKeys

        return address.encode(Keypair.from_seed(NodeKeys.load(home).validator).public)
    if wallet.startswith(address.PREFIX):
        try:
            return address.encode(address.decode(wallet))
        except ValueError as error:
            raise UserError(
                f"{wallet!r} is not an address: {error}", "copy it again", ExitCode.USAGE
            ) from error
    return Keystore(home.keystore).show(wallet).address


def unlock(home: Home, wallet: str) -> bytes:
    """The seed of a wallet, its passphrase asked for where needed."""
    from p2pml.identity import NodeKeys
    from p2pml.storage.keystore import Keystore

    if wallet == NODE_WALLET:
        return NodeKeys.load(home).validator
    keystore = Keystore(home.keystore)
    keystore.show(wallet)  # a wrong name is told before the passphrase is asked for
    return keystore.unlock(wallet, _passphrase(wallet))


def _passphrase(wallet: str, confirm: bool = False) -> str:
    given = os.environ.get("P2PML_PASSPHRASE")
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise UserError(
            f"the wallet {wallet!r} needs its passphrase and there is no terminal to ask on",
            "set P2PML_PASSPHRASE",
            ExitCode.AUTH,
        )
    import getpass

    typed = getpass.getpass(f"passphrase of {wallet}: ")
    if confirm and getpass.getpass("once more: ") != typed:
        raise UserError("the two passphrases differ", "try again", ExitCode.AUTH)
    return typed


def _history_row(item: dict[str, Any], own: str) -> tuple[object, ...]:
    payload = item["payload"]
    amount, other = "", ""
    if item["type"] == "transfer":
        outgoing = item["sender"] == own
        amount = ("-" if outgoing else "+") + tokens(payload["amount"])
        other = payload["to"] if outgoing else item["sender"]
    elif "receipts" in payload:
        earned = sum(receipt["amount"] for receipt in payload["receipts"] if receipt["trainer"] == own)
        amount = "+" + tokens(earned) if earned else ""
        other = "" if item["sender"] == own else item["sender"]
    elif "budget" in payload:
        amount = "-" + tokens(payload["budget"])
    return (item["height"], item["type"], amount, tokens(item["fee"]), short(other, 16), item["id"][:16])
