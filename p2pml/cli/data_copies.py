"""`p2pml data get --to`: copies of a data set's files in a folder of the user's.

Their names were chosen by whoever made the data set, `.bashrc` among them: nothing that is there is replaced.
"""

from __future__ import annotations

import errno
import filecmp
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from p2pml.cli.output import say
from p2pml.errors import ExitCode, UserError


def copy_out(answer: dict[str, Any], wanted: list[int] | None, to: Path) -> None:
    """Copy files of a data set into a folder, made if it is not there, and say where each is.

    A file that is there already, byte for byte, is left alone; so a copying that failed can be repeated.

    Args:
        answer: of `/datasets/<info-hash>`.
        wanted: numbers of the files; None for all.

    Raises:
        UserError: (code 2) a name is taken, or a link is on its way, then nothing is written; (code 1) a file
            cannot be written.
    """
    chosen = [item for item in answer["files"] if wanted is None or item["index"] in wanted]
    pairs = [(Path(item["location"]), _target(item["path"], to)) for item in chosen]
    there = {target for source, target in pairs if _is_there(source, target)}
    for source, target in pairs:
        if target not in there:
            _copy(source, target)
        say(f"{target}")


def _target(path: str, to: Path) -> Path:
    target = to / path
    taken = next((folder for folder in _folders_above(target, to) if not folder.is_dir()), None)
    if taken is not None:
        raise _in_the_way(taken)
    if os.path.isabs(path) or target.parent.resolve() != (to.resolve() / path).parent:
        raise UserError(
            f"{target} would lie outside of {to}", "a link is on its way: choose another --to", ExitCode.USAGE
        )
    return target


def _folders_above(target: Path, to: Path) -> Iterator[Path]:
    """The folders between the target and `to` of which something is there."""
    for folder in target.parents:
        if folder == to:
            return
        if os.path.lexists(folder):
            yield folder


def _is_there(source: Path, target: Path) -> bool:
    """Whether the target has the source's bytes. Raises UserError (code 2) when something else is there."""
    if not os.path.lexists(target):
        return False
    try:
        same = filecmp.cmp(source, target, shallow=False)
    except OSError:  # a link to nothing, say
        same = False
    if not same:
        raise _in_the_way(target)
    return True


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all, by way of a name that nothing has."""
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part)
        if os.path.lexists(target):  # since it was looked at
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        os.replace(part, target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(
            f"{target} cannot be written: {error.strerror or error}", "choose another --to"
        ) from error


def _in_the_way(path: Path) -> UserError:
    return UserError(
        f"{path} is there already, and is not the data set's", "choose another --to", ExitCode.USAGE
    )
