"""Homes for nodes, and a network for homes: what happens before a daemon first runs.

Imports nothing heavy at module level: the commands, the demo and the lab use it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pml.config import Config
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home

if TYPE_CHECKING:
    from chain.genesis import Founder
    from chain.params import ChainParams

DEFAULT_RATING = 10


def set_up(home: Home, given: Mapping[str, Any], genesis: Path | None = None) -> dict[str, str]:
    """Make or complete a home and tell who it is.

    Args:
        home: may exist; its keys and its config.toml are never replaced.
        given: values for config.toml that are not None.
        genesis: a genesis file to copy.

    Returns:
        `home`, `peer_id`, `address` (the multiaddress to bootstrap from) and `account`.

    Raises:
        UserError: settings for a home that has a config.toml already, a wrong value, a wrong genesis file.
    """
    from p2pml.node.genesis_file import install_genesis

    given = {key: value for key, value in given.items() if value is not None}
    if given and home.config_file.exists():
        raise UserError(
            f"{home.config_file} exists already and is yours to edit",
            f"change {', '.join(given)} there, or leave the options out",
            ExitCode.BAD_CONFIG,
        )
    config = Config().override(**given)
    peer = make_keys(home)
    if genesis is not None:
        install_genesis(home, genesis)
    if not home.config_file.exists():
        home.config_file.write_text(config.to_toml(), encoding="utf-8")
    settled = Config.load(home)
    reachable = "127.0.0.1" if settled.listen in ("0.0.0.0", "::") else settled.listen
    return {
        "home": str(home.root),
        "peer_id": peer,
        "address": multiaddress(reachable, settled.port, peer),
        "account": account_of(home),
    }


def account_of(home: Home) -> str:
    """The address of the account whose keys a home has."""
    from chain import address
    from chain.crypto import Keypair
    from p2pml.identity import NodeKeys

    return address.encode(Keypair.from_seed(NodeKeys.load(home).validator).public)


def make_keys(home: Home) -> str:
    """Make the home's folders and keys where they are missing; returns its peer id."""
    from chain.crypto import Keypair
    from p2pml.identity import NodeKeys, peer_id

    home.create()
    return peer_id(Keypair.from_seed(NodeKeys.load_or_create(home).node).public)


def multiaddress(ip: str, port: int, peer: str) -> str:
    """Where others reach a node, as `bootstrap` wants it."""
    return f"/ip{6 if ':' in ip else 4}/{ip}/tcp/{port}/p2p/{peer}"


def configured_addresses(home: Home, config: Config) -> list[str]:
    """Where a node that does not run will listen, by its configuration.

    Raises:
        UserError: its ports are the system's to choose, so nobody knows yet.
    """
    from chain.crypto import Keypair
    from p2pml.identity import NodeKeys, peer_id
    from p2pml.net.addresses import expand, listen_location

    ports = [(config.port, False), (config.websocket_port, True)]
    places = [listen_location(config.listen, port, websocket) for port, websocket in ports if port]
    if not places:
        raise UserError("the node's port is not known before it runs", "start it with `p2pml daemon` first")
    peer = peer_id(Keypair.from_seed(NodeKeys.load(home).node).public)
    return [f"{place}/p2p/{peer}" for place in expand(places)]


def make_genesis(
    homes: Sequence[Path],
    preset: str,
    name: str,
    ratings: Mapping[Path, int],
    allocation: int,
    changes: Mapping[str, int] | None = None,
) -> str:
    """The text of a genesis file.

    Args:
        homes: the founders' homes; each keeps its keys, only the public ones are read out.
        preset: name of the chain's parameters.
        name: of the network.
        ratings: by absolute path of a home; `DEFAULT_RATING` for the others.
        allocation: base units for each founder.
        changes: parameters that are not the preset's.

    Raises:
        UserError: a home without keys, an unknown preset or parameter, ratings for a home that is not listed.
    """
    from chain.errors import ChainError
    from chain.genesis import Genesis
    from chain.params import preset as chain_preset

    listed = [Home.locate(path) for path in homes]
    stranger = next((path for path in ratings if path not in {home.root for home in listed}), None)
    if stranger is not None:
        raise UserError(
            f"--rating names {stranger}, which is not among the homes", "list it too", ExitCode.USAGE
        )
    founders = tuple(
        _founder(home, ratings.get(home.root, DEFAULT_RATING), f"node{number}")
        for number, home in enumerate(listed, start=1)
    )
    try:
        genesis = Genesis(
            chain_name=name,
            time_ms=int(time.time() * 1000),
            params=_changed(chain_preset(preset), changes or {}),
            validators=founders,
            allocations=tuple((founder.public, allocation) for founder in founders),
        )
    except ChainError as error:
        raise UserError(f"no network can be made of this: {error}", "correct it", ExitCode.USAGE) from error
    return genesis.to_json()


def _changed(params: ChainParams, changes: Mapping[str, Any]) -> ChainParams:
    """Raises ParamsError for values that contradict, or a name that no parameter has."""
    from chain.errors import ParamsError

    unknown = sorted(set(changes) - {field.name for field in fields(params)})
    if unknown:
        raise ParamsError(f"there is no parameter {unknown[0]!r}")
    return replace(params, **changes)


def _founder(home: Home, rating: int, default_name: str) -> Founder:
    """What a genesis file says of the node that lives in `home`."""
    from chain.crypto import Keypair
    from chain.genesis import Founder
    from chain.vrf import public_key
    from p2pml.identity import NodeKeys

    keys = NodeKeys.load(home)
    return Founder(
        public=Keypair.from_seed(keys.validator).public,
        vrf_public=public_key(keys.vrf),
        rating=rating,
        name=Config.load(home).name or default_name,
    )
