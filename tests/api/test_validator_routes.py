"""The end points of validators and parameters: who may look, who may change."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from p2pml.api.app import create_app

WRITES: list[tuple[str, dict[str, Any]]] = [
    ("validator", {"name": "me", "bond": 5}),
    ("validator/consent", {"sponsor": "pml1payer"}),
    ("parameters/proposals", {"dataset": "digits", "q_min": 1}),
    ("parameters/approvals", {"proposal": "44444444"}),
    ("invites", {"uses": 2}),
]


def http(node: Any, *, full: bool = True) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=create_app(node, full=full), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:9471/api/v1/")


async def test_anyone_on_this_machine_may_look(fake_node: Any) -> None:
    async with http(fake_node, full=False) as client:
        found = (await client.get("parameters")).json()
        assert (found["proposals"][0]["support"], found["coming"][0]["epoch"]) == (10, 5)
        assert (await client.get("validator")).json()["own"] is True
        assert (await client.get("validators/fake")).json()["own"] is False
        assert (await client.get("validators/nobody")).status_code == 404


@pytest.mark.parametrize(("path", "body"), WRITES, ids=lambda value: str(value)[:24])
async def test_only_the_socket_changes(fake_node: Any, path: str, body: dict[str, Any]) -> None:
    async with http(fake_node, full=False) as client:
        assert (await client.post(path, json=body)).status_code in (404, 405)
        assert fake_node.calls == []
    async with http(fake_node) as client:
        assert (await client.post(path, json={**body, "more": 1})).status_code == 422
        assert fake_node.calls == []
        assert (await client.post(path, json=body)).status_code in (200, 202)
    assert len(fake_node.calls) == 1


async def test_requests_arrive_as_they_were_made(fake_node: Any) -> None:
    async with http(fake_node) as client:
        for path, body in WRITES:
            await client.post(path, json=body)
        assert (await client.post("validator", json={"bond": -1})).status_code == 422
    assert fake_node.calls == [
        ("register", "me", 5),
        ("registration", None, None, "pml1payer"),
        ("propose", "digits", 1, None),
        ("approve", "44444444"),
        ("invite", None, 2, 168),
    ]
