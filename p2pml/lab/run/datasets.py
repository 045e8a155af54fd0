"""The datasets that a scenario speaks of, as files."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

from p2pml.errors import ExitCode, UserError
from p2pml.training.bundled import DIGITS_NAME, write_digits

_NOISE = re.compile(r"noise:([1-9][0-9]{0,3})MiB")
_MIB = 1 << 20


def name_of(data: str) -> str:
    """How a dataset is called on the network."""
    if data == "digits":
        return DIGITS_NAME
    if noise := _NOISE.fullmatch(data):
        return f"noise-{noise[1]}MiB.bin"
    return Path(data).name


def write(data: str, beside: Path, folder: Path) -> Path:
    """Put a dataset into `folder`; the same bytes every time.

    Args:
        data: `digits`, `noise:<n>MiB`, or a path relative to `beside`.
        beside: the scenario file's folder.
        folder: made if it is not there.

    Raises:
        UserError: (code 7) there is no such file, or it cannot be copied.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if data == "digits":
        return write_digits(folder)
    path = folder / name_of(data)
    if noise := _NOISE.fullmatch(data):
        stream = random.Random(data)
        with path.open("wb") as file:
            for _ in range(int(noise[1])):
                file.write(stream.randbytes(_MIB))
        return path
    try:
        shutil.copyfile(beside / data, path)
    except OSError as error:
        raise UserError(
            f"the dataset {beside / data} cannot be read: {error.strerror or error}",
            "write digits, noise:<n>MiB, or the path of a file beside the scenario",
            ExitCode.BAD_CONFIG,
        ) from error
    return path
