"""The end points of the worker: anyone on this machine may look, only the socket pauses."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from p2pml.api.app import create_app


def http(node: Any, *, full: bool = True) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=create_app(node, full=full), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:9471/api/v1/")


@pytest.mark.parametrize("what", ["pause", "resume"])
async def test_only_the_socket_pauses(fake_node: Any, what: str) -> None:
    async with http(fake_node, full=False) as client:
        assert (await client.get("worker")).json()["state"] == "ready"
        assert (await client.post(f"worker/{what}")).status_code in (404, 405)
    assert fake_node.calls == []
    async with http(fake_node) as client:
        answer = await client.post(f"worker/{what}")
    assert (answer.status_code, answer.json()["rests"]) == (200, ["paused"] if what == "pause" else [])
    assert fake_node.calls == [(f"{what} worker",)]
