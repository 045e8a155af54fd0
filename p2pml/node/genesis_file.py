"""The genesis file of a home: checked before it is copied, and never silently replaced by another
network's.
"""

from __future__ import annotations

import os
from pathlib import Path

from chain.errors import ChainError
from chain.genesis import Genesis
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home

MAX_BYTES = 4 * 1024 * 1024


def read_genesis(path: Path) -> Genesis:
    """Read and check a genesis file.

    Raises:
        UserError: (code 7) missing, unreadable, too large or not a genesis.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(
            f"the genesis file {path} cannot be read: {error.strerror or error}",
            "get it from the network's founder, or make one with `p2pml genesis create`",
            ExitCode.BAD_CONFIG,
        ) from error
    if len(content) > MAX_BYTES:
        raise UserError(
            f"{path} is larger than {MAX_BYTES} bytes", "name a genesis file", ExitCode.BAD_CONFIG
        )
    try:
        return Genesis.from_json(content)
    except ChainError as error:
        raise UserError(
            f"{path} is not a valid genesis file: {error}",
            "get it from the network's founder",
            ExitCode.BAD_CONFIG,
        ) from error


def install_genesis(home: Home, source: Path) -> Genesis:
    """Copy a genesis file into a home after a check.

    Raises:
        UserError: (code 7) as `read_genesis`, or the home belongs to another network already.
    """
    genesis = read_genesis(source)
    if home.genesis_file.exists():
        present = read_genesis(home.genesis_file)
        if present.chain_id != genesis.chain_id:
            raise UserError(
                f"the home {home.root} belongs to the network {present.chain_name!r} already",
                "use another --home for another network",
                ExitCode.BAD_CONFIG,
            )
        return present
    draft = home.genesis_file.with_name(f".genesis.{os.getpid()}")
    draft.write_text(genesis.to_json(), encoding="utf-8")
    os.replace(draft, home.genesis_file)
    return genesis
