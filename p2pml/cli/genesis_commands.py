"""`p2pml genesis …`: found a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2pml.cli.options import JsonOption
from p2pml.cli.output import emit, emit_json, fields, parse_tokens, tokens
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home
from p2pml.node.setup import make_genesis

group = typer.Typer(help="Found a network, or look at a genesis file.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="genesis")


@group.command("create")
def create(
    homes: Annotated[list[Path], typer.Argument(metavar="HOME...", help="homes of the founding nodes")],
    out: Annotated[Path, typer.Option("--out", help="the file to write")],
    preset: Annotated[
        str, typer.Option("--preset", help="demo, lab, main, or report: the richest propose")
    ] = "lab",
    name: Annotated[str, typer.Option("--name", help="the network's name")] = "p2pml",
    rating: Annotated[
        list[str] | None, typer.Option("--rating", metavar="HOME=N", help="a founder's rating; default 10")
    ] = None,
    allocation: Annotated[str, typer.Option("--allocation", help="tokens for each founder")] = "1000",
    as_json: JsonOption = False,
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
    if as_json:
        from p2pml.node.genesis_file import read_genesis

        emit_json({"file": str(out), "chain_id": read_genesis(out).chain_id.hex()})
    else:
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
    owned = sum(genesis.balance(founder.public) for founder in genesis.validators)
    proposers = {
        "rating": "drawn at random, in proportion to the rating",
        "richest": f"the richest, in order; the validators own {tokens(owned)} tokens",
    }
    emit(
        fields(
            [
                ("network", genesis.chain_name),
                ("chain id", genesis.chain_id.hex()),
                ("slot", f"{genesis.params.slot_ms / 1000:g} s"),
                ("proposers", proposers[genesis.params.selection]),
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
