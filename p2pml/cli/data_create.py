"""`p2pml data create`: a `.torrent` file without a daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from p2pml.cli.data_progress import progress_bar
from p2pml.cli.options import JsonOption
from p2pml.cli.output import emit, emit_json, fields, size
from p2pml.errors import ExitCode, UserError

TrackerOption = Annotated[
    list[str] | None,
    typer.Option("--tracker", help="HTTP tracker to put into the .torrent file; may be repeated"),
]
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20}


def create(
    path: Annotated[Path, typer.Argument(help="file or folder")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="default: NAME.torrent in this folder")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="the torrent's name; default: the file's")
    ] = None,
    hybrid: Annotated[
        bool, typer.Option("--hybrid/--v1", help="with SHA-256 trees (BEP 52) beside SHA-1, or SHA-1 only")
    ] = True,
    piece_length: Annotated[
        str | None, typer.Option("--piece-length", help="a power of two from 16k to 512m; default: by size")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="set BEP 27's flag")] = False,
    tracker: TrackerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a .torrent file; any BitTorrent client can read it. Needs no daemon and offers nothing."""
    from p2pml.storage.seeding import Making, make_torrent, scan

    making = Making(hybrid, private, _piece_length(piece_length), tuple(tracker or ()))
    source = scan(path, name)
    target = Path(f"{source.name}.torrent") if output is None else output
    if target.exists():
        raise UserError(f"{target} exists already", "remove it, or name another file with --output")
    with progress_bar(f"hashing {path}") as show:
        made = make_torrent(source, making, show).metainfo
    _write(target, made.raw)
    answer: dict[str, Any] = {
        "file": str(target.absolute()),
        "name": made.name,
        "infohash": made.hex,
        "infohash_v2": "" if made.v2 is None else made.v2.info_hash.hex(),
        "size": made.content_length,
        "files": len(source.files),
        "pieces": made.piece_count,
        "piece_length": made.piece_length,
        "private": made.private,
    }
    if as_json:
        emit_json(answer)
        return
    shown = answer | {
        "size": size(made.content_length),
        "piece_length": size(made.piece_length),
        "infohash_v2": answer["infohash_v2"] or None,
    }
    emit(fields((key.replace("_", " "), value) for key, value in shown.items()))


def _piece_length(text: str | None) -> int | None:
    if text is None:
        return None
    digits = text.lower().rstrip("km")
    length = int(digits) * UNITS.get(text.lower()[len(digits) :], 0) if digits.isdecimal() else 0
    if not (1 << 14) <= length <= (512 << 20) or length & (length - 1):
        raise UserError(
            f"--piece-length {text!r} is not a power of two from 16k to 512m",
            "try 256k or 1m",
            ExitCode.USAGE,
        )
    return length


def _write(target: Path, content: bytes) -> None:
    try:
        with open(target, "xb") as file:
            file.write(content)
    except OSError as error:
        raise UserError(
            f"{target} cannot be written: {error.strerror or error}", "choose another --output"
        ) from error
