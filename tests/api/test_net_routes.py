"""The end points of connections and bans: who may look, who may change, and what is refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from p2pml.api.app import create_app

BANS = "/api/v1/net/bans"


def http(node: Any, *, full: bool = True) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=create_app(node, full=full), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:9471")


async def test_anyone_on_this_machine_may_look(fake_node: Any) -> None:
    async with http(fake_node, full=False) as client:
        found = (await client.get("/api/v1/net/connections")).json()
        bans = (await client.get(BANS)).json()
    assert (found[0]["direction"], found[0]["rtt_ms"], found[0]["clock_ms"]) == ("in", 1.5, -3)
    assert (bans[0]["until"], bans[0]["times"], bans[0]["reason"]) == (5000, 2, "lied")


async def test_only_the_socket_pings_and_bans(fake_node: Any) -> None:
    async with http(fake_node, full=False) as client:
        for answer in (
            await client.post("/api/v1/net/ping", json={"peer": "b"}),
            await client.post(BANS, json={"peer": "b"}),
            await client.delete(f"{BANS}/b"),
        ):
            assert answer.status_code in (404, 405)
    assert fake_node.calls == []
    async with http(fake_node) as client:
        assert (await client.post("/api/v1/net/ping", json={"peer": "b"})).json()["rtt_ms"] == 1.25
        await client.post(BANS, json={"peer": "b"})
        await client.post(BANS, json={"peer": "b", "seconds": 1.5, "reason": "why"})
        assert (await client.delete(f"{BANS}/a%20b")).json() == {"peer_id": "a b"}
    assert fake_node.calls == [
        ("ping", "b"), ("ban", "b", None, ""), ("ban", "b", 1.5, "why"), ("unban", "a b"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"peer": ""},
        {"peer": "b" * 129},
        {"peer": "b", "seconds": 0},
        {"peer": "b", "seconds": -1},
        {"peer": "b", "seconds": 1e12},
        {"peer": "b", "seconds": "nan"},
        {"peer": "b", "reason": "x" * 201},
        {"peer": "b", "forever": True},
    ],
    ids=range(9),
)
async def test_a_ban_that_means_nothing_is_refused(fake_node: Any, body: dict[str, Any]) -> None:
    async with http(fake_node) as client:
        answer = await client.post(BANS, json=body)
    assert answer.status_code == 422
    assert fake_node.calls == []
