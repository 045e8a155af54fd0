"""The end points of datasets: what reaches the node, under any name, and from where."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx

from p2pml.api.app import create_app
from p2pml.storage.torrent_files import Choice

NAME = "d & co?"
PATH = f"/api/v1/datasets/{quote(NAME, safe='')}"


def http(node: Any, *, full: bool = True) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=create_app(node, full=full), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:9471")


async def test_a_dataset_is_found_by_a_name_that_means_something_in_a_url(fake_node: Any) -> None:
    async with http(fake_node, full=False) as client:
        assert (await client.get(PATH)).json()["infohash"] == "ef" * 20
        missing = await client.get("/api/v1/datasets/other")
    assert (missing.status_code, missing.json()["detail"]) == (404, "there is no data set other")


async def test_members_are_bounded(fake_node: Any) -> None:
    async with http(fake_node, full=False) as client:
        answer = await client.get(f"{PATH}/members", params={"limit": 7})
        too_many = await client.get(f"{PATH}/members", params={"limit": 100_001})
    member = {"name": "a", "offset": 512, "size": 3}
    assert answer.json() == [{"file": 0, "members": [member], "more": True, "problem": ""}]
    assert too_many.status_code == 422
    assert fake_node.calls == [("tars", NAME, 7)]


async def test_changes_reach_the_node(fake_node: Any) -> None:
    async with http(fake_node) as client:
        verified = await client.post(f"{PATH}/verify")
        await client.post(f"{PATH}/pause")
        await client.post(f"{PATH}/resume")
        removed = await client.delete(PATH)
        await client.delete(PATH, params={"with_data": "true"})
    assert verified.json()["damaged"] == [3, 5]
    assert removed.json()["kept"] == "/kept"
    assert fake_node.calls == [
        ("verify", NAME),
        ("pause", NAME),
        ("resume", NAME),
        ("remove", NAME, False),
        ("remove", NAME, True),
    ]


async def test_files_are_chosen_by_pattern_and_priority(fake_node: Any) -> None:
    choices = [
        {"pattern": "train/*", "priority": 7},
        {"pattern": "x"},
        {"pattern": "y", "begin": 5, "end": 9},
    ]
    async with http(fake_node) as client:
        request = {"action": "get", "dataset": NAME, "choices": choices}
        assert (await client.post("/api/v1/datasets", json=request)).status_code == 202
        for wrong in (
            {"pattern": "x", "priority": 8},
            {"pattern": ""},
            {"pattern": "x", "priority": -1},
            {"pattern": "x", "begin": -1},
            {"pattern": "x", "end": -1},
        ):
            answer = await client.post("/api/v1/datasets", json=request | {"choices": [wrong]})
            assert answer.status_code == 422
    assert fake_node.calls == [
        ("get", NAME, None, None, (), *(Choice("train/*", 7), Choice("x"), Choice("y", 4, 5, 9)))
    ]


async def test_the_port_changes_nothing(fake_node: Any) -> None:
    async with http(fake_node, full=False) as client:
        for action in ("verify", "pause", "resume"):
            assert (await client.post(f"{PATH}/{action}")).status_code in (404, 405)
        assert (await client.delete(PATH)).status_code == 405
    assert fake_node.calls == []
