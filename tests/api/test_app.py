"""The application over a node of canned answers: routes, problems, guards."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from p2pml.api.app import create_app
from p2pml.api.guards import MAX_BODY


def http(node: Any, *, full: bool = True, host: str = "localhost:9471") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=create_app(node, full=full), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")


async def test_looking_works_on_both_applications(fake_node: Any) -> None:
    for full in (False, True):
        async with http(fake_node, full=full) as client:
            status = (await client.get("/api/v1/status")).json()
            assert status["head"] == {"id": "ab" * 32, "height": 3, "slot": 5, "final_height": 1}
            assert status["worker"] == "starting"
            assert (await client.get("/api/v1/peers")).json()[0]["peer_id"] == "12D3b"
            account = (await client.get("/api/v1/accounts/pml1someone")).json()
            assert account["transactions"][0]["payload"] == {"amount": 1}
            assert (await client.get("/api/v1/supply")).json()["adds_up"] is True
            assert (await client.get("/api/v1/checkpoint")).json()["text"].startswith("7:2222")
            assert (await client.get("/api/v1/validators")).json()[0]["share"] == 1.0
            assert (await client.get("/api/v1/datasets")).json()[0]["infohash"] == "ef" * 20
            assert (await client.get("/healthz")).json() == {"status": "ok"}
            assert (await client.get("/api/v1/jobs/x/spec")).json() == {"spec": "name: x"}
            log = await client.get("/api/v1/jobs/x/log", params={"after": 3})
            assert log.json() == [{"number": 4, "at": 0.0, "text": "begun"}]
            assert (await client.get("/api/v1/jobs/x/log", params={"after": -1})).status_code == 422


async def test_changing_is_only_possible_through_the_socket(fake_node: Any) -> None:
    body = {"transaction": "00ff"}
    async with http(fake_node, full=False) as client:
        assert (await client.post("/api/v1/transactions", json=body)).status_code == 404
        assert (await client.post("/api/v1/shutdown")).status_code == 404
        assert (await client.post("/api/v1/jobs", json={})).status_code == 405
        assert (await client.delete("/api/v1/jobs/x")).status_code == 405
        assert (await client.post("/api/v1/jobs/x/resume")).status_code == 404
        assert (await client.post("/api/v1/jobs/quote", json={})).status_code == 405
    assert fake_node.calls == []
    assert not fake_node.shutdown.is_set()
    async with http(fake_node) as client:
        assert (await client.post("/api/v1/transactions", json=body)).json() == {"id": "11" * 32}
        batch = await client.post("/api/v1/transactions/batch", json={"transactions": ["00ff", "01"]})
        assert batch.json() == {"ids": ["11" * 32], "refused": [{"index": 1, "reason": "the nonce is 3"}]}
        for wrong in ([], ["0"], ["00"] * 257):
            refused = await client.post("/api/v1/transactions/batch", json={"transactions": wrong})
            assert refused.status_code == 422
        assert (await client.post("/api/v1/shutdown")).status_code == 202
        assert (await client.delete("/api/v1/jobs/x")).status_code == 202
        material = await client.get("/api/v1/jobs/x/material")
        assert material.json() == {"id": "x", "folder": "/folder", "data": "/data", "output": "/output"}
        resumed = await client.post("/api/v1/jobs/x/resume")
        assert (resumed.status_code, resumed.json()) == (202, {"id": "x", "events_after": 7})
        spec = {"spec": "name: a", "base_dir": "/base", "origin": "a.yaml"}
        quoted = await client.post("/api/v1/jobs/quote", json=spec)
        assert (quoted.status_code, quoted.json()["rounds"]) == (200, 3)
    assert fake_node.calls == [
        ("submit", b"\x00\xff"),
        ("batch", b"\x00\xff", b"\x01"),
        ("stop", "x"),
        ("material", "x"),
        ("resume", "x"),
        ("quote", "name: a", Path("/base"), "a.yaml"),
    ]
    assert fake_node.shutdown.is_set()


async def test_data_requests_reach_the_node(fake_node: Any) -> None:
    async with http(fake_node) as client:
        seed = {"action": "seed", "path": "/data/x", "name": "x", "private": True, "allowed": ["12D3"]}
        seed["trackers"] = ["http://t.example/announce"]
        assert (await client.post("/api/v1/datasets", json=seed)).status_code == 202
        metainfo = base64.b64encode(b"d4:infod").decode()
        get = {"action": "get", "metainfo": metainfo, "wanted": [0, 2], "peers": ["192.0.2.7:1"]}
        assert (await client.post("/api/v1/datasets", json=get)).status_code == 202
        relative = {"action": "seed", "path": "x"}
        refused = await client.post("/api/v1/datasets", json=relative)
    assert refused.status_code == 400
    assert refused.json()["code"] == 2
    assert fake_node.calls == [
        ("seed", Path("/data/x"), "x", True, ("12D3",), True, ("http://t.example/announce",)),
        ("get", "", b"d4:infod", (0, 2), ("192.0.2.7:1",)),
    ]


async def test_errors_are_problem_documents(fake_node: Any) -> None:
    async with http(fake_node) as client:
        spec = {"spec": "a: 1", "base_dir": "/", "origin": "job.yaml"}
        bad_spec = await client.post("/api/v1/jobs", json=spec)
        missing = await client.get("/api/v1/transactions/zz")
        nowhere = await client.get("/nowhere")
        unknown_field = await client.post("/api/v1/transactions", json={"transaction": "00", "x": 1})
        bug = await client.get("/api/v1/jobs/1")
    for answer in (bad_spec, missing, nowhere, unknown_field, bug):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
    assert bad_spec.status_code == 422
    assert bad_spec.json()["detail"] == "job.yaml:2: unknown key 'epoch'"
    assert bad_spec.json()["fix"] == "did you mean 'epochs'?"
    assert bad_spec.json()["code"] == 7
    assert missing.status_code == 404
    assert nowhere.status_code == 404
    assert unknown_field.status_code == 422
    assert bug.status_code == 500
    assert "secret" not in bug.text


async def test_readiness_names_its_reason(fake_node: Any) -> None:
    async with http(fake_node) as client:
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        fake_node.reason = "no block yet"
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "no block yet"


@pytest.mark.parametrize("host", ["127.0.0.1:9471", "localhost", "[::1]:1"])
async def test_loopback_names_are_served(fake_node: Any, host: str) -> None:
    async with http(fake_node, full=False, host=host) as client:
        assert (await client.get("/api/v1/status")).status_code == 200


@pytest.mark.parametrize("host", ["evil.example:9471", "127.0.0.1.evil.example", "10.0.0.1"])
async def test_a_rebound_name_is_refused(fake_node: Any, host: str) -> None:
    async with http(fake_node, full=False, host=host) as client:
        answer = await client.get("/api/v1/status")
    assert answer.status_code == 421
    assert "peer_id" not in answer.text


async def test_large_bodies_are_refused_announced_or_not(fake_node: Any) -> None:
    async def endless() -> Any:
        for _ in range(MAX_BODY // 2**20 + 1):
            yield b" " * 2**20

    async with http(fake_node) as client:
        announced = await client.post("/api/v1/transactions", content=b" " * (MAX_BODY + 1))
        streamed = await client.post("/api/v1/transactions", content=endless())
    assert announced.status_code == 413
    assert streamed.status_code >= 400
    assert fake_node.calls == []


async def test_block_pages_are_bounded(fake_node: Any) -> None:
    async with http(fake_node) as client:
        assert (await client.get("/api/v1/blocks", params={"first": 4, "count": 500})).json() == []
        assert (await client.get("/api/v1/blocks", params={"count": 501})).status_code == 422
        assert (await client.get("/api/v1/blocks", params={"first": -1})).status_code == 422
    assert fake_node.calls == [("blocks", 4, 500)]


async def test_the_schema_is_served_offline(fake_node: Any) -> None:
    async with http(fake_node) as client:
        schema = (await client.get("/openapi.json")).json()
        assert (await client.get("/docs")).status_code == 404
    assert "/api/v1/blocks/{id_or_height}" in schema["paths"]
