"""What the command line loads before it knows what it is asked to do."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("trio", "libp2p", "tensorflow", "fastapi", "httpx", "numpy", "hypercorn", "cryptography", "chain")
REPORT = "import sys\n{}\nprint(' '.join(name for name in {!r} if name in sys.modules))"
HELP = """
from p2pml.cli.app import run
assert run({!r}) == 0, "help failed"
print("-----")
"""


def loaded_by(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", REPORT.format(code, HEAVY)], capture_output=True, text=True, check=True
    )
    return result.stdout.removesuffix("\n").rpartition("\n")[2]


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    assert loaded_by("import p2pml.cli") == ""


def test_importing_the_python_client_loads_nothing_heavy() -> None:
    assert loaded_by("from p2pml import Client; Client('home')") == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["--help"], ["daemon", "--help"], ["wallet", "send", "--help"], ["bench", "run", "--help"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    assert loaded_by(HELP.format(arguments)) == ""


def test_the_probe_sees_what_is_loaded() -> None:
    assert loaded_by("import trio") == "trio"
