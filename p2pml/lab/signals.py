"""Ctrl-C and termination, so that they end the lab and never interrupt its clearing up."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _exit(signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


@contextlib.contextmanager
def ending_unwinds() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP unwind the stack as Ctrl-C does, where they would have ended the process at
    once.

    Handlers that somebody else installed stay. Outside the main thread nothing changes.
    """
    if not _in_main_thread():
        yield
        return
    replaced = [signum for signum in _SIGNALS if signal.getsignal(signum) is signal.SIG_DFL]
    for signum in replaced:
        signal.signal(signum, _exit)
    try:
        yield
    finally:
        for signum in replaced:
            signal.signal(signum, signal.SIG_DFL)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within, Ctrl-C, SIGTERM and SIGHUP wait; the first one that came is raised at the end.

    Signals interrupt the main thread only; in any other this does nothing.
    """
    if not _in_main_thread():
        yield
        return
    came: list[int] = []
    # A handler that was not set from Python shows as None and cannot be put back: that signal is left alone.
    previous = {signum: handler for signum in _SIGNALS if (handler := signal.getsignal(signum)) is not None}
    for signum in previous:
        signal.signal(signum, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
        if came:
            signal.raise_signal(came[0])
