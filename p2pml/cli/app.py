"""The command tree, and what an error looks like: one line for the cause, one for the fix, never a
traceback.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator

import typer

from p2pml.cli import (
    bench_commands,
    chain_commands,
    chain_files,
    chain_params,
    compare_commands,
    data_commands,
    demo,
    doctor_commands,
    genesis_commands,
    invite_commands,
    job_commands,
    lab_commands,
    net_commands,
    node_commands,
    rating_commands,
    sim_commands,
    validator_commands,
    wallet_commands,
    worker_commands,
    worker_serve,
)
from p2pml.cli.output import error, say
from p2pml.errors import ExitCode, UserError

app = typer.Typer(
    name="p2pml",
    help="A peer-to-peer node that turns idle machines into a training pool and pays them for it.",
    epilog="Start here: `p2pml demo` runs four nodes on this machine, trains on them and shows who was paid.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
demo.register(app)
node_commands.register(app)
doctor_commands.register(app)
genesis_commands.register(app)
invite_commands.register(app)
net_commands.register(app)
data_commands.register(app)
job_commands.register(app)
compare_commands.register(app)
wallet_commands.register(app)
chain_commands.register(app)
chain_files.register()
chain_params.register()
validator_commands.register(app)
rating_commands.register(app)
worker_commands.register(app)
worker_serve.register()
sim_commands.register(app)
lab_commands.register(app)
bench_commands.register(app)


def run(arguments: list[str] | None = None) -> int:
    """Carry out one command line and return its exit code (`p2pml.errors.ExitCode`)."""
    try:
        app(arguments, prog_name="p2pml")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except UserError as problem:
        error(problem)
        return int(problem.code)
    except KeyboardInterrupt:
        say("interrupted")
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (`p2pml … | head`); stop the interpreter from complaining at
        # exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.FAILURE)
    except Exception as unexpected:
        if os.environ.get("P2PML_DEBUG"):
            traceback.print_exc()
        named = dict.fromkeys(f"{type(each).__name__}: {each}" for each in _innermost(unexpected))
        error(
            UserError(
                f"unexpected: {'; '.join(named)}",
                "run it again with P2PML_DEBUG=1 and report what it prints",
            )
        )
        return int(ExitCode.FAILURE)
    return int(ExitCode.OK)


def _innermost(problem: BaseException) -> Iterator[BaseException]:
    """The error itself, or those of a group and of the groups in it."""
    if isinstance(problem, BaseExceptionGroup):
        for each in problem.exceptions:
            yield from _innermost(each)
    else:
        yield problem
