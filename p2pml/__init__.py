"""A peer-to-peer node that trains models for others and has its own trained.

`Client` speaks to a running node:

    from p2pml import Client

    job = Client("net/n0").train("job.yaml", on_round=print)
    job.wait().result("model")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p2pml.errors import UserError
    from p2pml.jobs import Client, Job, Round

__all__ = ["Client", "Job", "Round", "UserError"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are asked for: every command and process begins here."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from p2pml import errors, jobs

    return getattr(errors if name == "UserError" else jobs, name)
