"""Work for whoever asked: it ends when the connection does."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import trio
from fastapi import Request

from p2pml.errors import UserError

T = TypeVar("T")


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the sender of `request` goes away.

    Args:
        request: its body has been read.
        work: finishes at once when cancelled, or as if it had not been.

    Raises:
        UserError: the sender is gone, so nobody reads this.
        Exception: what `work` raises.
    """
    problem: Exception = UserError("whoever asked for this went away")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_at_end, request, nursery.cancel_scope)
        try:
            return await work
        except Exception as error:  # raised below: the nursery would wrap it
            problem = error
        finally:
            nursery.cancel_scope.cancel()
    raise problem


async def _cancel_at_end(request: Request, scope: trio.CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
