"""`p2pml invite` and `p2pml join`: how a friend becomes a member of the network."""

from __future__ import annotations

from typing import Annotated

import typer

from p2pml.cli.node_commands import ApiPortOption, ListenOption, NameOption, PortOption, TrainerOption
from p2pml.cli.options import HomeOption, JsonOption
from p2pml.cli.output import emit, emit_json, fields, say
from p2pml.client import NodeClient
from p2pml.config import Config, Home
from p2pml.errors import ExitCode, UserError


def register(app: typer.Typer) -> None:
    app.command("invite")(invite)
    app.command("join")(join)


def invite(
    home: HomeOption = None,
    address: Annotated[
        list[str] | None,
        typer.Option("--address", help="where others reach this node: /ip4/…/tcp/…/p2p/…; may be repeated"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print an invite to this node's network: a text to send to a friend, who joins with it."""
    from p2pml.node.genesis_file import read_genesis
    from p2pml.node.invite import Invite, worth_telling

    place = Home.locate(home)
    if not place.genesis_file.exists():
        raise UserError(
            f"the home {place.root} belongs to no network yet",
            "join one with `p2pml join`, or found one with `p2pml genesis create`",
            ExitCode.BAD_CONFIG,
        )
    genesis = read_genesis(place.genesis_file)
    addresses = tuple(address) if address else worth_telling(_addresses(place))
    made = Invite(genesis.chain_name, genesis.chain_id, addresses, genesis.to_json().encode())
    if as_json:
        emit_json({"invite": made.encode(), "network": made.network, "addresses": list(addresses)})
        return
    emit(made.encode())
    say(f"to the network {made.network!r}, by way of {', '.join(addresses)}")


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
    """Make a home that is a member of the network that the invite names."""
    from p2pml.node.invite import Invite
    from p2pml.node.joining import join as join_network

    place = Home.locate(home)
    found = Invite.decode(text)
    given = {"name": name, "listen": listen, "port": port, "api_port": api_port, "trainer": trainer}
    identity = {"network": found.network, **join_network(place, found, given)}
    if as_json:
        emit_json(identity)
        return
    emit(fields(identity.items()))
    say(f"next: p2pml daemon --home {place.root}")


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
