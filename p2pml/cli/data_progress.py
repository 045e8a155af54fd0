"""Progress of work on datasets: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from p2pml.cli.data_view import copies_of, ready_in
from p2pml.cli.output import is_live, say, size
from p2pml.client import NodeClient
from p2pml.errors import UserError
from p2pml.home import Home

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_S = 5.0
Show = Callable[[int, int], None]


@contextmanager
def progress_bar(label: str) -> Iterator[Show]:
    """A bar that is told (done, total); nothing off a terminal."""
    if not is_live():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def daemon_progress(home: Home, kind: str, label: str) -> Iterator[None]:
    """On a terminal, show how far the daemon is, told by its events of a kind in a thread of their own."""
    with progress_bar(label) as show:
        if is_live():
            threading.Thread(target=_follow, args=(home, kind, show), daemon=True).start()
        yield


def _follow(home: Home, kind: str, show: Show) -> None:
    try:
        with NodeClient(home) as node:
            for event in node.events():
                if event.kind == kind:
                    show(event.data["done"], event.data["total"])
    except (UserError, OSError):
        return  # only the bar is lost; the request itself tells what is wrong


@contextmanager
def told_when_interrupted(text: str) -> Iterator[None]:
    """Say at Ctrl-C what becomes of the daemon's work that was waited for."""
    try:
        yield
    except KeyboardInterrupt:
        say(text)
        raise


@contextmanager
def transfer_progress(
    answer: dict[str, Any], console: Console | None = None
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Shows a dataset's state while it is fetched: a bar on a terminal, else a line now and then.

    Args:
        console: the terminal; None for stderr, if that is one.
    """
    if console is None and not is_live():
        last = -PLAIN_S

        def plain(state: dict[str, Any]) -> None:
            nonlocal last
            if state["complete"] or time.monotonic() - last >= PLAIN_S:
                last = time.monotonic()
                say(f"{state['name']}: {_here(state)} of {state['wanted']} pieces, {_outlook(state)}")

        yield plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    layout = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} pieces, {task.fields[outlook]}", markup=False),
    )
    with Progress(*layout, console=console or Console(stderr=True)) as progress:
        task = progress.add_task(answer["name"], total=answer["wanted"], outlook="")

        def bar(state: dict[str, Any]) -> None:
            here, outlook = _here(state), _outlook(state)
            progress.update(task, completed=here, total=state["wanted"], outlook=outlook)

        yield bar


def _here(state: dict[str, Any]) -> int:
    return int(state["wanted"] - state["missing"])


def _outlook(state: dict[str, Any]) -> str:
    rate = f"{size(state['rate_down'])}/s from {state['peers']} peers, {copies_of(state)}"
    return rate if state["complete"] else f"{rate}, ready in {ready_in(state)}"
