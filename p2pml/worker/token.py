"""The secret that a node and its worker on another machine share: a file that only its owner can read."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from p2pml.errors import ExitCode, UserError

LEAST = 32
"""Characters; what is made here has 64."""


def read_token(path: Path) -> str:
    """The token in a file.

    Raises:
        UserError: (code 7) it cannot be read, is too short, or others can read it.
    """
    try:
        mode, token = path.stat().st_mode, path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(
            f"the token file {path} cannot be read: {error}", "copy the one that `p2pml worker serve` made"
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise _bad(f"others can read the token file {path}", f"chmod 600 {path}")
    if len(token) < LEAST or not token.isprintable():
        raise _bad(
            f"the token in {path} is not one line of at least {LEAST} characters",
            "copy it again, or delete the file and let `p2pml worker serve` make another",
        )
    return token


def make_token(path: Path) -> None:
    """Write a new one, unless there is a file. Raises UserError."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise _bad(f"the token file {path} cannot be written: {error}", "choose another place") from error
    with open(handle, "w", encoding="ascii") as out:
        out.write(secrets.token_hex(32) + "\n")


def _bad(cause: str, fix: str) -> UserError:
    return UserError(cause, fix, ExitCode.BAD_CONFIG)
