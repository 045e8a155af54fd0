"""`p2pml genesis …`: found a network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from p2pml.cli.options import JsonOption
from p2pml.cli.output import emit, emit_json, fields, parse_tokens, tokens
from p2pml.config import Config, Home
from p2pml.errors import ExitCode, UserError

DEFAULT_RATING = 10

group = typer.Typer(help="Found a network, or look at a genesis file.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="genesis")


@group.command("create")
def create(
    homes: Annotated[list[Path], typer.Argument(metavar="HOME...", help="homes of the founding nodes")],
    out: Annotated[Path, typer.Option("--out", help="the file to write")],
    preset: Annotated[str, typer.Option("--preset", help="demo, lab, main or report")] = "lab",
    name: Annotated[str, typer.Option("--name", help="the network's name")] = "p2pml",
    rating: Annotated[
        list[str] | None, typer.Option("--rating", metavar="HOME=N", help="a founder's rating; default 10")
    ] = None,
    allocation: Annotated[str, typer.Option("--allocation", help="tokens for each founder")] = "1000",
) -> None:
    """Write the genesis file of a new network from the public keys of its founders' homes."""
    text = make_genesis(homes, preset, name, parse_ratings(rating or []), parse_tokens(allocation))
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UserError(f"{out} exists already", "name another file with --out") from error
    except OSError as error:
        raise UserError(
            f"{out} cannot be written: {error.strerror}", "name another file with --out"
        ) from error
    emit(str(out))


@group.command("show")
def show(path: Path, as_json: JsonOption = False) -> None:
    """Check a genesis file and say what it founds."""
    from p2pml.node.genesis_file import read_genesis

    genesis = read_genesis(path)
    if as_json:
        import json

        emit_json({**json.loads(genesis.to_json()), "chain_id": genesis.chain_id.hex()})
        return
    ratings = sum(founder.rating for founder in genesis.validators)
    emit(
        fields(
            [
                ("network", genesis.chain_name),
                ("chain id", genesis.chain_id.hex()),
                ("slot", f"{genesis.params.slot_ms / 1000:g} s"),
                ("validators", f"{len(genesis.validators)}, ratings add up to {ratings}"),
                ("tokens", tokens(genesis.supply)),
            ]
        )
    )


def parse_ratings(given: list[str]) -> dict[Path, int]:
    """`HOME=N` options as a table by absolute path."""
    ratings: dict[Path, int] = {}
    for item in given:
        home, equals, number = item.rpartition("=")
        if not equals or not number.isascii() or not number.isdigit():
            raise UserError(
                f"--rating {item!r} is not HOME=NUMBER", "write it as --rating HOME=5", ExitCode.USAGE
            )
        ratings[Home.locate(Path(home)).root] = int(number)
    return ratings


def make_genesis(homes: list[Path], preset: str, name: str, ratings: dict[Path, int], allocation: int) -> str:
    """The text of a genesis file.

    Args:
        homes: the founders' homes; each keeps its keys, only the public ones are read out.
        preset: name of the chain's parameters.
        name: of the network.
        ratings: by absolute path of a home; `DEFAULT_RATING` for the others.
        allocation: base units for each founder.

    Raises:
        UserError: a home without keys, an unknown preset, ratings for a home that is not listed.
    """
    from chain.crypto import Keypair
    from chain.errors import ChainError
    from chain.genesis import Founder, Genesis
    from chain.params import preset as chain_preset
    from chain.vrf import public_key
    from p2pml.identity import NodeKeys

    founders = []
    listed = [Home.locate(path) for path in homes]
    stranger = next((path for path in ratings if path not in {home.root for home in listed}), None)
    if stranger is not None:
        raise UserError(
            f"--rating names {stranger}, which is not among the homes", "list it too", ExitCode.USAGE
        )
    for number, home in enumerate(listed, start=1):
        keys = NodeKeys.load(home)
        founders.append(
            Founder(
                public=Keypair.from_seed(keys.validator).public,
                vrf_public=public_key(keys.vrf),
                rating=ratings.get(home.root, DEFAULT_RATING),
                name=Config.load(home).name or f"node{number}",
            )
        )
    try:
        genesis = Genesis(
            chain_name=name,
            time_ms=int(time.time() * 1000),
            params=chain_preset(preset),
            validators=tuple(founders),
            allocations=tuple((founder.public, allocation) for founder in founders),
        )
    except ChainError as error:
        raise UserError(f"no network can be made of this: {error}", "correct it", ExitCode.USAGE) from error
    return genesis.to_json()
