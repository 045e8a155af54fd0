"""Joining a network by an invite: the genesis is got and checked before anything is written."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2pml.config import Config, Home
from p2pml.errors import ExitCode, UserError
from p2pml.node.genesis_file import read_genesis
from p2pml.node.invite import Invite, check_genesis
from p2pml.node.setup import set_up


def join(home: Home, invite: Invite, given: Mapping[str, Any]) -> dict[str, str]:
    """Make the home a member of the invite's network.

    Args:
        home: may exist, without a network or with this one.
        invite: where to, and by whom.
        given: values for config.toml that are not None.

    Returns:
        As `set_up`.

    Raises:
        UserError: the home is another network's, or has a config.toml without the invite's addresses; the
            genesis cannot be had or is a wrong one.
    """
    _check_home(home, invite)
    content = invite.genesis or _fetch(invite)
    genesis = check_genesis(content, invite.chain_id)
    settings: dict[str, Any] = dict(given)
    if not home.config_file.exists():
        settings["bootstrap"] = list(invite.addresses)
    with tempfile.TemporaryDirectory(prefix="p2pml-join-") as folder:
        file = Path(folder) / "genesis.json"
        file.write_text(genesis.to_json(), encoding="utf-8")
        return set_up(home, settings, file)


def _check_home(home: Home, invite: Invite) -> None:
    if home.genesis_file.exists():
        present = read_genesis(home.genesis_file)
        if present.chain_id != invite.chain_id:
            raise UserError(
                f"the home {home.root} belongs to the network {present.chain_name!r} already",
                "use another --home for another network",
                ExitCode.BAD_CONFIG,
            )
    if home.config_file.exists():
        missing = [item for item in invite.addresses if item not in Config.load(home).bootstrap]
        if missing:
            listed = ", ".join(f'"{item}"' for item in missing)
            raise UserError(
                f"{home.config_file} exists already and is yours to edit",
                f"add to its bootstrap: {listed}; then join again",
                ExitCode.BAD_CONFIG,
            )


def _fetch(invite: Invite) -> bytes:
    import trio

    from p2pml.net.errors import RemoteError
    from p2pml.net.genesis_exchange import fetch_genesis

    try:
        return trio.run(fetch_genesis, invite.addresses, invite.chain_id, strict_exception_groups=True)
    except* RemoteError as group:
        problem = group
    raise UserError(
        f"the genesis of {invite.network!r} cannot be fetched: {problem.exceptions[0]}",
        "ask the inviter to start their node and check its port with `p2pml doctor`",
        ExitCode.NETWORK,
    )
