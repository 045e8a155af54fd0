"""What a person is told when something goes wrong: the cause, what to do about it, and the exit code."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the `p2pml` command."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    DAEMON_DOWN = 3
    AUTH = 4
    NETWORK = 5
    JOB_FAILED = 6
    BAD_CONFIG = 7
    INTERRUPTED = 130


class UserError(Exception):
    """An error that its reader can act on.

    Args:
        cause: one sentence, what went wrong, with the offending value.
        fix: one sentence, what to do; empty when there is nothing to do.
        code: the exit code of a command that ends with this error.
    """

    def __init__(self, cause: str, fix: str = "", code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(cause)
        self.cause = cause
        self.fix = fix
        self.code = code
