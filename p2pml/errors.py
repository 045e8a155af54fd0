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
    STOPPED = 10
    SUSPENDED = 11
    NO_TRAINERS = 12
    NO_DATA = 13
    NO_TOKENS = 14
    NO_WORKER = 15
    ROUND_FAILED = 16
    TOO_LATE = 17
    NOT_SETTLED = 18
    INTERRUPTED = 130


JOB_ENDS = {
    ExitCode.OK: "done",
    ExitCode.JOB_FAILED: "failed",
    ExitCode.BAD_CONFIG: "bad-spec",
    ExitCode.STOPPED: "stopped",
    ExitCode.SUSPENDED: "suspended",
    ExitCode.NO_TRAINERS: "no-trainers",
    ExitCode.NO_DATA: "no-data",
    ExitCode.NO_TOKENS: "no-tokens",
    ExitCode.NO_WORKER: "no-worker",
    ExitCode.ROUND_FAILED: "round-failed",
    ExitCode.TOO_LATE: "too-late",
    ExitCode.NOT_SETTLED: "not-settled",
}
"""How a job can end: the word in its journal and in JSON, by the exit code of a command that saw it end.

Scripts know them, so neither changes; docs/guide/jobs.md says what each means.
"""


def job_end(code: ExitCode) -> str:
    """The word for a job that an error with this code ended."""
    return JOB_ENDS.get(code, JOB_ENDS[ExitCode.JOB_FAILED])


def exit_code(end: str) -> ExitCode:
    """The code that belongs to the word; `JOB_FAILED` for a word that only another version knows."""
    return next((code for code, word in JOB_ENDS.items() if word == end), ExitCode.JOB_FAILED)


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
