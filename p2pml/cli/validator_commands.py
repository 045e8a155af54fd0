"""`p2pml validator …`: becoming one, looking at one, and deciding together on the baseline of ratings."""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import emit, emit_json, fields, parse_tokens, say, tokens
from p2pml.cli.wallet_commands import NODE_WALLET, VALID_SLOTS, unlock
from p2pml.client import NodeClient
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home

WAIT_S = 300.0
AGAIN_S = 0.3
TELL_S = 10.0

group = typer.Typer(
    help="Validators: become one, see one, decide on the baseline of ratings.", no_args_is_help=True
)

WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="until it is in a block")]


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="validator")


@group.command("register")
def register_validator(
    name: Annotated[
        str | None, typer.Option("--name", help="what people call it; default: the node's")
    ] = None,
    bond: Annotated[
        str | None, typer.Option("--bond", help="tokens to add to the bond; default: what the least takes")
    ] = None,
    source: Annotated[str, typer.Option("--from", help="wallet that pays bond and fee")] = NODE_WALLET,
    wait: WaitOption = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make this node a validator, or change its name and add to its bond.

    A new validator has rating 0: it is drawn for blocks, and votes, once it has earned a rating.
    """
    place = Home.locate(home)
    wish = {"name": name, "bond": None if bond is None else parse_tokens(bond)}
    with NodeClient(place) as node:
        if source == NODE_WALLET:
            tx_id = node.post("/validator", wish)["id"]
        else:
            tx_id = _register_from(node, place, source, wish)
        result = _sent(node, tx_id, "the registration", wait)
        if not as_json and result["height"] is not None and node.get("/validator")["rating"] == 0:
            say("this validator has rating 0: it proposes and votes once it has earned a rating")
    _show_sent(result, as_json)


@group.command("show")
def show(
    who: Annotated[
        str | None, typer.Argument(metavar="NODE", help="a name or an address; default: this node")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """A validator: rating, chances, bond, bar."""
    with NodeClient(Home.locate(home)) as node:
        found = node.get("/validator" if who is None else f"/validators/{quote(who, safe='')}")
    if as_json:
        emit_json(found)
        return
    barred = found["barred_epochs"]
    emit(
        fields(
            [
                ("name", found["name"]),
                ("account", found["address"]),
                ("rating", found["rating"]),
                ("weight now", found["weight"]),
                ("chance", f"{found['draw_share']:.1%} of being drawn first for a slot"),
                ("votes", f"{found['vote_share']:.1%} of all voices"),
                ("bond", f"{tokens(found['bond'])} tokens" + (", a founder" if found["founder"] else "")),
                ("vesting", f"{tokens(found['vesting'])} tokens"),
                ("barred", f"for {barred} more finalized epochs" if barred else "no"),
                ("vrf key", found["vrf_public"]),
            ]
        )
    )
    if not found["rating"] and not barred:
        say("rating 0: it proposes and votes once it has earned a rating")


@group.command("propose-baseline")
def propose(
    dataset: Annotated[
        str, typer.Argument(metavar="INFOHASH|NAME", help="a data set, or `bundled` for the bundled digits")
    ],
    q_min: Annotated[
        int | None, typer.Option("--q-min", help="quality below which a rating is 0, ppm; default: as now")
    ] = None,
    q_ref: Annotated[
        int | None,
        typer.Option("--q-ref", help="quality from which more earns nothing, ppm; default: as now"),
    ] = None,
    wait: WaitOption = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose another data set, or other quality bounds, for the test that ratings come from."""
    with NodeClient(Home.locate(home)) as node:
        wish = {"dataset": dataset, "q_min": q_min, "q_ref": q_ref}
        tx_id = node.post("/parameters/proposals", wish)["id"]
        result = _sent(node, tx_id, "the proposal", wait)
    if not as_json:
        say(f"voters approve it with `p2pml validator approve {tx_id[:16]}`")
    _show_sent(result, as_json)


@group.command("approve")
def approve(
    proposal: Annotated[str, typer.Argument(help="its id, or the first digits: see `p2pml chain params`")],
    wait: WaitOption = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve an open proposal: two thirds of the voters' weight adopt it."""
    with NodeClient(Home.locate(home)) as node:
        tx_id = node.post("/parameters/approvals", {"proposal": proposal})["id"]
        result = _sent(node, tx_id, "the approval", wait)
    _show_sent(result, as_json)


def _register_from(node: NodeClient, home: Home, wallet: str, wish: dict[str, Any]) -> str:
    """The daemon gives the account's consent, the wallet signs here and pays."""
    from chain import address
    from chain.codec import unpack
    from chain.crypto import Keypair
    from chain.transactions import Register, sign_tx
    from p2pml.node.genesis_file import read_genesis

    keypair = Keypair.from_seed(unlock(home, wallet))
    payer = address.encode(keypair.public)
    agreed = node.post("/validator/consent", {**wish, "sponsor": payer})
    payload = Register.from_item(unpack(bytes.fromhex(agreed["payload"]), 4096))
    transaction = sign_tx(
        keypair,
        read_genesis(home.genesis_file).chain_id,
        payload,
        nonce=node.get(f"/accounts/{payer}")["next_nonce"],
        valid_until_slot=node.get("/status")["slot"] + VALID_SLOTS,
        fee=agreed["fee"],
    )
    tx_id: str = node.post("/transactions", {"transaction": transaction.encode().hex()})["id"]
    return tx_id


def _sent(node: NodeClient, tx_id: str, what: str, wait: bool) -> dict[str, Any]:
    """Say that it is sent, and wait until a block has it.

    Raises:
        UserError: (code 5) not within `WAIT_S`.
    """
    say(f"sent {what}, transaction {tx_id}")
    if not wait:
        return {"id": tx_id, "height": None}
    deadline = time.monotonic() + WAIT_S
    tell = time.monotonic() + TELL_S
    while time.monotonic() < deadline:
        found: dict[str, Any] = node.get(f"/transactions/{tx_id}")
        if found["height"] is not None:
            return found
        if time.monotonic() > tell:
            tell += TELL_S
            say(f"waiting for a block, the newest has height {node.get('/status')['head']['height']} …")
        time.sleep(AGAIN_S)
    raise UserError(
        f"the transaction {tx_id} is in no block after {WAIT_S:.0f} s",
        f"look again with `p2pml chain tx {tx_id}`: it may still be included",
        ExitCode.NETWORK,
    )


def _show_sent(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit_json(result)
    else:
        tx_id = result["id"]
        emit(tx_id if result["height"] is None else f"{tx_id} in block {result['height']}")
