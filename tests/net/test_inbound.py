"""Slots of inbound connections."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import pytest
import trio

from p2pml.net.host import Host


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["stock", "fast"])
async def test_connections_that_ended_take_no_slots(transport: str) -> None:
    async with (
        Host(b"a" * 32, transport=transport).running() as a,
        Host(b"b" * 32, transport=transport).running() as b,
    ):
        slots = a.raw.get_network()._inbound_limiter
        for _ in range(3):
            await b.connect(a.addrs()[0])
            assert slots.borrowed_tokens >= 1
            await b.disconnect(a.peer_id)
        with trio.fail_after(5):
            while slots.borrowed_tokens:
                await trio.sleep(0.01)
