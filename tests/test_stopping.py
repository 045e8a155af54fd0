"""Signals end a scope, save the one that its starter had ignored."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator

import pytest
import trio

from p2pml.stopping import stop_on_signal


@pytest.fixture
def ignored_hangup() -> Iterator[None]:
    """What nohup(1) leaves to the program that it starts."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


async def test_a_closed_terminal_ends_it(nursery: trio.Nursery) -> None:
    with trio.CancelScope() as scope:
        await nursery.start(stop_on_signal, scope)
        signal.raise_signal(signal.SIGHUP)
        await trio.sleep_forever()
    assert scope.cancelled_caught
    nursery.cancel_scope.cancel()


async def test_under_nohup_a_closed_terminal_does_not_end_it(
    ignored_hangup: None, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "p2pml.stopping")
    with trio.CancelScope() as scope:
        await nursery.start(stop_on_signal, scope)
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)  # signals are told in the order in which they come
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert caplog.messages == ["stopping: SIGTERM"]
    nursery.cancel_scope.cancel()
