"""The end points of ratings: anyone on this machine may look, at one, at all, at the windows."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from p2pml.api.app import create_app


def http(node: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=create_app(node, full=False), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:9471/api/v1/")


async def test_anyone_on_this_machine_may_look(fake_node: Any) -> None:
    async with http(fake_node) as client:
        own = (await client.get("rating")).json()
        assert (own["own"], own["earned"], own["odds"][1]["epoch"]) == (True, 28, 7)
        other = (await client.get("ratings/fake")).json()
        assert (other["own"], other["outcomes"][0]["reason"]) == (False, "rated")
        assert (await client.get("ratings/nobody")).status_code == 404
        ranks = (await client.get("ratings")).json()
        assert [rank["energy"] and rank["energy"]["samples_per_joule"] for rank in ranks] == [4915, None]
        windows = (await client.get("rating/windows")).json()
        assert (windows["next"], windows["latest"]["phase"]["name"]) == (128, "training")


async def test_a_network_without_windows_says_so(fake_node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_node.rating, "windows", lambda: None)
    async with http(fake_node) as client:
        answer = await client.get("rating/windows")
        assert (answer.status_code, answer.json()) == (200, None)
