"""The `p2pml` command. Importing this package, or asking for help, loads nothing heavy."""

from __future__ import annotations


def main() -> None:
    """Run the command line of this process and exit with its code."""
    from p2pml.cli.app import run

    raise SystemExit(run())
