"""`p2pml invite` and `p2pml join`: how a friend becomes a member of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pml.cli.node_commands import ApiPortOption, ListenOption, NameOption, PortOption, TrainerOption
from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import emit, emit_json, fields, parse_tokens, say, tokens
from p2pml.client import NodeClient
from p2pml.config import Config
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home

if TYPE_CHECKING:
    from p2pml.net.sponsor_exchange import Answer
    from p2pml.node.invite import SponsorTerms


def register(app: typer.Typer) -> None:
    app.command("invite")(invite)
    app.command("join")(join)


def invite(
    home: HomeOption = None,
    address: Annotated[
        list[str] | None,
        typer.Option("--address", help="where others reach this node: /ip4/…/tcp/…/p2p/…; may be repeated"),
    ] = None,
    sponsor: Annotated[
        bool, typer.Option("--sponsor", help="whoever joins becomes a validator, and this node pays for it")
    ] = False,
    bond: Annotated[
        str | None, typer.Option("--bond", help="tokens for each newcomer; default: the network's least")
    ] = None,
    uses: Annotated[int, typer.Option("--uses", min=1, help="how many nodes it is good for")] = 1,
    hours: Annotated[int, typer.Option("--hours", min=1, help="for how long it is good")] = 168,
    as_json: JsonOption = False,
) -> None:
    """Print an invite to this node's network: a text to send to a friend, who joins with it.

    With --sponsor, bond and fee of the friend's registration come from this node's account when the invite is
    used; keep the text secret until then.
    """
    from p2pml.node.genesis_file import read_genesis
    from p2pml.node.invite import Invite, worth_telling

    if bond is not None and not sponsor:
        raise UserError("--bond is for invites with --sponsor", "add --sponsor", ExitCode.USAGE)
    place = Home.locate(home)
    if not place.genesis_file.exists():
        raise UserError(
            f"the home {place.root} belongs to no network yet",
            "join one with `p2pml join`, or found one with `p2pml genesis create`",
            ExitCode.BAD_CONFIG,
        )
    genesis = read_genesis(place.genesis_file)
    addresses = tuple(address) if address else worth_telling(_addresses(place))
    terms = _sponsor(place, bond, uses, hours) if sponsor else None
    made = Invite(genesis.chain_name, genesis.chain_id, addresses, genesis.to_json().encode(), terms)
    if as_json:
        promised = (
            None if terms is None else {"bond": terms.bond, "uses": uses, "expires_ms": terms.expires_ms}
        )
        emit_json(
            {
                "invite": made.encode(),
                "network": made.network,
                "addresses": list(addresses),
                "sponsor": promised,
            }
        )
        return
    emit(made.encode())
    say(f"to the network {made.network!r}, by way of {', '.join(addresses)}")
    if terms is not None:
        say(
            f"good for {uses} nodes within {hours} h: for each this node pays a bond of {tokens(terms.bond)}"
            " tokens and the fee, and it has to be running then"
        )


def join(
    text: Annotated[str, typer.Argument(metavar="INVITE", help="the text that `p2pml invite` printed")],
    home: HomeOption = None,
    name: NameOption = None,
    listen: ListenOption = None,
    port: PortOption = None,
    api_port: ApiPortOption = None,
    trainer: TrainerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a home that is a member of the network that the invite names; a validator if the inviter pays."""
    from p2pml.node.invite import Invite
    from p2pml.node.joining import join as join_network
    from p2pml.node.joining import register_by

    place = Home.locate(home)
    found = Invite.decode(text)
    given = {"name": name, "listen": listen, "port": port, "api_port": api_port, "trainer": trainer}
    identity: dict[str, Any] = {"network": found.network, **join_network(place, found, given)}
    if found.sponsor is not None:
        say(f"asking the inviter to register this node with a bond of {tokens(found.sponsor.bond)} tokens …")
        answer = register_by(place, found, _tell)
        identity |= {"registered_by": answer.tx_id.hex(), "block": answer.height}
    if as_json:
        emit_json(identity)
        return
    emit(fields(identity.items()))
    if found.sponsor is not None:
        say("a new validator has rating 0: it proposes and votes once it has earned a rating")
    say(f"next: p2pml daemon --home {place.root}")


def _tell(answer: Answer) -> None:
    if answer.height:
        say(f"registered in block {answer.height}")
    else:
        say(f"the inviter has signed transaction {answer.tx_id.hex()}; waiting for a block …")


def _sponsor(home: Home, bond: str | None, uses: int, hours: int) -> SponsorTerms:
    """Have the daemon promise to pay; it has to run, or nobody could keep the promise."""
    from chain import address
    from p2pml.node.invite import SponsorTerms

    units = None if bond is None else parse_tokens(bond)
    with NodeClient(home) as node:
        made = node.post("/invites", {"bond": units, "uses": uses, "hours": hours})
    account, secret = address.decode(made["account"]), bytes.fromhex(made["secret"])
    return SponsorTerms(account, secret, made["bond"], made["expires_ms"])


def _addresses(home: Home) -> list[str]:
    """What the daemon says, and without one what its configuration will make it say."""
    try:
        with NodeClient(home) as node:
            return list(node.get("/status")["addresses"])
    except UserError as error:
        if error.code is not ExitCode.DAEMON_DOWN:
            raise
    from p2pml.node.setup import configured_addresses

    return configured_addresses(home, Config.load(home))
