"""A whole chain in one file, to be checked by whoever has no node: genesis and blocks, nothing derived.

Format: the line `p2pml chain 1`, then length-prefixed parts (u32, big-endian): the genesis file as UTF-8
JSON, and each block of the best branch in its canonical encoding, in the order of their heights from 1 on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from chain.errors import GenesisError, InvalidError
from chain.genesis import Genesis
from chain.types import MAX_BLOCK_BYTES, Block
from p2pml.errors import UserError

MAGIC = b"p2pml chain 1\n"
MAX_GENESIS_BYTES = 16 * 1024 * 1024


def write_chain(path: Path, genesis: Genesis, blocks: Iterable[Block]) -> int:
    """Write a chain to `path`, whole or not at all.

    Returns:
        The number of blocks.

    Raises:
        UserError: the file exists, or cannot be written.
    """
    fresh, count = path.with_name(path.name + ".part"), 0
    try:
        with path.open("xb"), fresh.open("wb") as file:
            file.write(MAGIC)
            _write_part(file, genesis.to_json().encode())
            for block in blocks:
                _write_part(file, block.encoded)
                count += 1
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except FileExistsError as error:
        raise UserError(f"{path} exists already", "name another file") from error
    except OSError as error:
        _forget(path, fresh)
        raise UserError(
            f"{path} cannot be written: {error.strerror or error}", "name another file"
        ) from error
    except BaseException:
        _forget(path, fresh)
        raise
    return count


def read_chain(path: Path) -> tuple[Genesis, Iterator[Block]]:
    """The genesis, and the blocks as they are asked for.

    Raises:
        UserError: it cannot be read or is no chain; the blocks raise it, too.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}", "name another file") from error
    try:
        if file.read(len(MAGIC)) != MAGIC:
            raise _broken(path, "it does not begin as one")
        part = _read_part(path, file, MAX_GENESIS_BYTES)
        if part is None:
            raise _broken(path, "it has no genesis")
        genesis = Genesis.from_json(part)
    except GenesisError as error:
        file.close()
        raise _broken(path, str(error)) from error
    except BaseException:
        file.close()
        raise
    return genesis, _blocks(path, file)


def _blocks(path: Path, file: BinaryIO) -> Iterator[Block]:
    with file:
        height = 0
        while (part := _read_part(path, file, MAX_BLOCK_BYTES)) is not None:
            height += 1
            try:
                yield Block.decode(part)
            except InvalidError as error:
                raise _broken(path, f"block {height}: {error}") from error


def _write_part(file: BinaryIO, data: bytes) -> None:
    file.write(len(data).to_bytes(4, "big") + data)


def _read_part(path: Path, file: BinaryIO, most: int) -> bytes | None:
    head = file.read(4)
    if not head:
        return None
    size = int.from_bytes(head, "big")
    if size > most:
        raise _broken(path, f"a part of {size} bytes")
    data = file.read(size)
    if len(head) < 4 or len(data) < size:
        raise _broken(path, "it ends in the middle")
    return data


def _broken(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} is not a whole chain: {why}", "export it again on a node: `p2pml chain export FILE`"
    )


def _forget(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
