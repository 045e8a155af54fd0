"""Ending in order when the system says so."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = logging.getLogger(__name__)


async def stop_on_signal(
    scope: trio.CancelScope,
    numbers: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    *,
    task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Cancel a scope when one of these signals comes; started once none is missed.

    SIGHUP that is ignored already stays so: nohup(1) starts programs like that, which outlive their terminal.
    """
    under_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    heard = [number for number in numbers if not (under_nohup and number is signal.SIGHUP)]
    with trio.open_signal_receiver(*heard) as signals:
        task_status.started()
        async for number in signals:
            log.info("stopping: %s", signal.Signals(number).name)
            scope.cancel()
