"""Dialling back: what is reached, what is not, and what nobody can make a node do."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from p2pml.net.errors import Malformed, RemoteError
from p2pml.net.host import Host
from p2pml.net.reachability import PROTOCOL, Reachability, Report, Timing, _agreed, _parse_report

pytestmark = pytest.mark.slow
QUICK = Timing(dial=1.0, between=1000.0, fresh=1000.0, first=0.05)


@asynccontextmanager
async def pair(timing: Timing = QUICK, **given: Any) -> AsyncIterator[tuple[Host, Host, Reachability]]:
    """An asker, a peer connected to it that checks, and the asker's own service."""
    async with Host(b"a" * 32, **given).running() as a, Host(b"b" * 32).running() as b:
        mine = Reachability(a, timing)
        Reachability(b, timing)
        await a.connect(b.addrs()[0])
        yield a, b, mine


@pytest.mark.parametrize("transport", ["stock", "fast"])
async def test_open_ports_are_reached_and_become_addresses(transport: str) -> None:
    async with pair(websocket_port=0, transport=transport) as (a, b, mine):
        (report,) = await mine.look()
        assert (report.peer, report.ip) == (b.peer_id, "127.0.0.1")
        assert report.reached == {addr.partition("/p2p/")[0]: True for addr in a.addrs()}
        assert len(report.reached) == 2
        assert set(a.external) == set(report.reached)
        assert len(a.addrs()) == 2
        assert await mine.look() == [report]  # not asked again


async def test_a_closed_port_and_another_nodes_port_are_not_reached() -> None:
    async with pair() as (a, b, _), Host(b"c" * 32).running() as c:
        with_nobody = 1
        other = c.ports()[0][1]
        answer = await a.request(b.peer_id, PROTOCOL, [1, [["tcp", with_nobody], ["tcp", other]]], 10)
        assert answer == ["127.0.0.1", [False, False]]


async def test_a_port_that_accepts_and_says_nothing_is_not_reached() -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await trio.sleep_forever()

    async with pair(Timing(dial=0.2)) as (a, b, _), trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, silent, 0)
        port = listeners[0].socket.getsockname()[1]
        assert await a.request(b.peer_id, PROTOCOL, [1, [["tcp", port]]], 10) == ["127.0.0.1", [False]]
        nursery.cancel_scope.cancel()


async def test_a_peer_that_asks_too_often_is_refused() -> None:
    async with pair() as (a, b, _):
        question = [1, a.ports()]
        assert (await a.request(b.peer_id, PROTOCOL, question, 10))[1] == [True]
        with pytest.raises(RemoteError):
            await a.request(b.peer_id, PROTOCOL, question, 10)


async def test_only_so_many_checks_are_under_way_at_once() -> None:
    async with Host(b"a" * 32).running() as a, Host(b"b" * 32).running() as b:
        service = Reachability(b, Timing(checks=1))
        await a.connect(b.addrs()[0])
        service._checks.acquire_on_behalf_of_nowait("another")
        with pytest.raises(RemoteError):
            await a.request(b.peer_id, PROTOCOL, [1, a.ports()], 10)
        service._checks.release_on_behalf_of("another")
        assert (await a.request(b.peer_id, PROTOCOL, [1, a.ports()], 10))[1] == [True]


async def test_loopback_is_not_dialled_for_a_peer_by_a_node_of_the_network() -> None:
    async with (
        Host(b"a" * 32).running() as a,
        Host(b"b" * 32, listen="0.0.0.0").running() as b,
    ):
        Reachability(b, QUICK)
        await a.connect(f"/ip4/127.0.0.1/tcp/{b.ports()[0][1]}/p2p/{b.peer_id}")
        with pytest.raises(RemoteError):
            await a.request(b.peer_id, PROTOCOL, [1, a.ports()], 10)


@pytest.mark.parametrize(
    "bad",
    [
        [1, []],
        [2, [["tcp", 1]]],
        [1, [["tcp", 1]] * 5],
        [1, [["udp", 1]]],
        [1, [["tcp", 0]]],
        [1, [["tcp", True]]],
        [1, [["tcp", "9470"]]],
        [1, ["/ip4/192.0.2.1/tcp/1"]],
        {"ports": 1},
    ],
)
async def test_a_malformed_question_is_refused(bad: Any) -> None:
    async with pair() as (a, b, mine):
        with pytest.raises(RemoteError):
            await a.request(b.peer_id, PROTOCOL, bad, 10)
        assert len(await mine.look()) == 1


@pytest.mark.parametrize("bad", [None, ["x", [True]], ["127.0.0.1", []], ["127.0.0.1", [1]], [1.5, [True]]])
def test_a_malformed_answer_is_the_peers_fault(bad: Any) -> None:
    with pytest.raises(Malformed):
        _parse_report("p", [["tcp", 9470]], bad)


def test_one_liar_among_three_gives_no_address() -> None:
    true, false = "/ip4/192.0.2.1/tcp/1", "/ip4/203.0.113.9/tcp/1"
    honest = {true: True}
    reports = [
        Report("a", "192.0.2.1", honest),
        Report("b", "192.0.2.1", honest),
        Report("c", "", {false: True}),
    ]
    assert _agreed(reports) == (true,)
    assert _agreed([Report("a", "", {true: True}), Report("b", "", {true: False})]) == ()


async def test_the_service_asks_by_itself() -> None:
    async with pair() as (a, _, mine), trio.open_nursery() as nursery:
        nursery.start_soon(mine.run)
        with trio.fail_after(10):
            while not a.external:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
