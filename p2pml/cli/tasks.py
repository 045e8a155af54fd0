"""Commands that are trio programs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import typer

from p2pml.cli.output import say
from p2pml.errors import ExitCode

T = TypeVar("T")


def run_tasks(main: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """What `main` gives; Ctrl-C ends the command in one line, though it comes while tasks are running."""
    import trio

    try:
        return trio.run(main, *arguments, strict_exception_groups=True)
    except KeyboardInterrupt:
        pass
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is None:
            raise
    say("interrupted")
    raise typer.Exit(int(ExitCode.INTERRUPTED))
