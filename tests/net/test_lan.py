"""Finding peers by multicast DNS: what is believed of a record, and two hosts in a network namespace."""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any

import pytest
import trio
import trio.testing
from zeroconf import Zeroconf

from p2pml.net import lan
from p2pml.net.gossip import Gossip
from p2pml.net.host import Host
from p2pml.net.lan import MAX_ADDRS, MAX_NAMES, Lan, parse
from p2pml.net.presence import Facts, Presence

CHAIN = bytes(range(32))
TAG = CHAIN.hex()[:16]
PEER = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
OTHER = "12D3KooWGC6TvWhfajpgX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5"
HERE = "198.18.77.1"
LINK = f"""
ip link set lo up && ip link add lan0 type veth peer name lan1 &&
ip addr add {HERE}/24 dev lan0 && ip link set lan0 up && ip link set lan1 up
"""


def text(*addrs: str, chain: str = TAG) -> dict[bytes, bytes | None]:
    found: dict[bytes, bytes | None] = {b"chain": chain.encode(), b"id": b"ignored", b"dnsaddrs": None}
    return found | {f"dnsaddr{number}".encode(): addr.encode() for number, addr in enumerate(addrs)}


def test_a_record_names_a_peer_and_its_addresses_on_local_networks() -> None:
    good = [f"/ip4/192.168.1.{i}/tcp/9470" for i in range(1, 20)]
    found = parse(text(*(f"{addr}/p2p/{PEER}" for addr in good)), TAG)
    assert found == (PEER, good[:MAX_ADDRS])
    assert parse(text(f"/ip6/fd00::1/tcp/9470/ws/p2p/{PEER}"), TAG) == (PEER, ["/ip6/fd00::1/tcp/9470/ws"])


@pytest.mark.parametrize(
    "record",
    [
        {},
        text(),
        text(f"/ip4/192.168.1.1/tcp/9470/p2p/{PEER}", chain="00" * 8),
        text(f"/ip4/9.9.9.9/tcp/9470/p2p/{PEER}"),  # a third party
        text(f"/ip4/127.0.0.1/tcp/22/p2p/{PEER}"),  # this machine
        text(f"/ip4/127.9.9.9/tcp/22/p2p/{PEER}"),
        text(f"/dns4/example.com/tcp/9470/p2p/{PEER}"),
        text(f"/ip4/192.168.1.1/tcp/1/p2p/{OTHER}/p2p-circuit/p2p/{PEER}"),
        text("/ip4/192.168.1.1/tcp/9470"),
        text("/ip4/192.168.1.1/tcp/9470/p2p/nobody"),
        text(f"/ip4/192.168.1.1/tcp/1/p2p/{PEER}", f"/ip4/192.168.1.2/tcp/1/p2p/{OTHER}"),
        {b"chain": TAG.encode(), b"dnsaddr": b"\xff\xfe"},
    ],
    ids=range(12),
)
def test_what_is_no_hint_of_a_peer_on_the_link_is_left_alone(record: dict[bytes, bytes | None]) -> None:
    assert parse(record, TAG) is None


async def test_names_that_come_in_a_flood_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Resolver:
        """Every name is a new peer's, as far as the text says."""

        def get_service_info(self, service: str, name: str, timeout: int) -> Any:
            class Info:
                properties = text(f"/ip4/192.168.1.1/tcp/9470/p2p/{PEER}")

            return Info

    hints: list[str] = []
    service = Lan(Host(b"\x01" * 32), CHAIN, lambda peer, addrs: hints.append(peer))
    for number in range(10 * MAX_NAMES):
        service._note(f"{number}.{lan.SERVICE}")
    assert service._names.statistics().current_buffer_used == MAX_NAMES
    resolver: Any = Resolver()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service._resolve, resolver)
        for number in range(2 * MAX_NAMES):
            await trio.testing.wait_all_tasks_blocked(0.0)
            service._note(f"more{number}.{lan.SERVICE}")
        with trio.fail_after(10):
            while service._names.statistics().current_buffer_used:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert len(service._found) <= MAX_NAMES
    assert hints


async def test_a_link_without_multicast_is_told_of_and_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Lan) -> Zeroconf:
        raise OSError("no such device")

    monkeypatch.setattr(Lan, "_open", refuse)
    async with trio.open_nursery() as nursery:
        await nursery.start(Lan(Host(b"\x01" * 32), CHAIN, lambda peer, addrs: None).run)
    assert "not looked for: no such device" in caplog.text


@pytest.mark.slow
def test_two_hosts_on_one_link_meet_and_strangers_do_not() -> None:
    """In a network namespace of its own, so that no packet leaves this test."""
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode
    ):
        pytest.skip("network namespaces cannot be made here")
    command = f"{LINK.strip()} && exec {sys.executable} {os.path.abspath(__file__)}"
    done = subprocess.run(
        ["unshare", "-n", "bash", "-c", command], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["met"]


async def _meet() -> None:
    """What the test runs inside of the namespace: two hosts of one chain, one of another."""
    hints: dict[str, set[tuple[str, str]]] = {"a": set(), "b": set(), "stranger": set()}
    async with (
        Host(b"\x01" * 32, listen=HERE).running() as a,
        Host(b"\x02" * 32, listen=HERE).running() as b,
        Host(b"\x03" * 32, listen=HERE).running() as stranger,
        trio.open_nursery() as nursery,
    ):
        for name, host, chain in (("a", a, CHAIN), ("b", b, CHAIN), ("stranger", stranger, bytes(32))):
            gossip = Gossip(host, chain)
            presence = Presence(host, gossip, lambda name=name: Facts(bytes(32), name=name))  # type: ignore[misc]

            def hint(peer: str, addrs: Any, name: str = name, presence: Presence = presence) -> None:
                hints[name].update((peer, addr) for addr in addrs)
                presence.hint(peer, addrs)

            for run in (gossip.run, presence.run, Lan(host, chain, hint).run):
                await nursery.start(run)
        places = {host.peer_id: host.addrs()[0].partition("/p2p/")[0] for host in (a, b)}
        with trio.fail_after(30):
            while not (hints["a"] and hints["b"] and a.connected() and b.connected()):
                await trio.sleep(0.05)
        assert hints["a"] == {(b.peer_id, places[b.peer_id])}
        assert hints["b"] == {(a.peer_id, places[a.peer_id])}
        assert not hints["stranger"]
        assert (a.connected(), b.connected(), stranger.connected()) == ([b.peer_id], [a.peer_id], [])
        nursery.cancel_scope.cancel()
    print("met")


if __name__ == "__main__":
    trio.run(_meet)
