"""A node behind a masquerading router: what `doctor` says of its port, and how others meet it all the same.

Three network namespaces that the test makes itself: outside, router, home. No packet leaves them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import asdict

import pytest
import trio

from p2pml.net.errors import RemoteError
from p2pml.net.host import Host
from p2pml.net.reachability import Reachability
from p2pml.net.relay import Relays
from p2pml.node.doctor_online import check_reach

PORT = 9470
OUTSIDE = [f"198.18.78.{i}" for i in (1, 2, 3)]
VISITOR, ROUTER, HOME = "198.18.78.4", "198.18.78.254", "198.18.79.2"
ECHO = "/test/echo/1.0.0"
LINKS = f"""
set -e
trap 'kill $router $home 2>/dev/null' EXIT
unshare -n sleep 100 & router=$!
unshare -n sleep 100 & home=$!
here=$(readlink /proc/self/ns/net)
for pid in $router $home; do while [ "$(readlink /proc/$pid/ns/net)" = "$here" ]; do sleep 0.02; done; done
at_router() {{ nsenter -t $router -n "$@"; }}
at_home() {{ nsenter -t $home -n "$@"; }}
ip link set lo up
ip link add wan0 type veth peer name wan1 netns $router
for address in {" ".join(OUTSIDE)} {VISITOR}; do ip addr add $address/24 dev wan0; done
ip link set wan0 up
at_router ip addr add {ROUTER}/24 dev wan1
at_router ip link set wan1 up
at_router ip link add lan0 type veth peer name lan1 netns $home
at_router ip addr add 198.18.79.1/24 dev lan0
at_router ip link set lan0 up
at_home ip addr add {HOME}/24 dev lan1
at_home ip link set lan1 up
at_home ip link set lo up
at_home ip route add default via 198.18.79.1
at_router sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
at_router iptables -t nat -A POSTROUTING -o wan1 -j MASQUERADE
"""
FORWARD = (
    f"at_router iptables -t nat -A PREROUTING -i wan1 -p tcp --dport {PORT} -j DNAT --to {HOME}:{PORT}\n"
)


def refusal() -> str:
    """Why such namespaces cannot be made here; empty where they can."""
    for program in ("unshare", "nsenter", "ip", "iptables"):
        if shutil.which(program) is None:
            return f"{program} is missing"
    tried = subprocess.run(
        ["unshare", "-n", "iptables", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE"],
        capture_output=True,
        text=True,
    )
    return tried.stderr.strip().splitlines()[-1] if tried.returncode else ""


def run(forward: bool) -> list[str]:
    """What the node at home and the visitor outside print."""
    me = f"{sys.executable} {os.path.abspath(__file__)}"
    script = LINKS + (FORWARD if forward else "") + f"{me} outside & at_home {me} home; wait $!"
    done = subprocess.run(["unshare", "-n", "bash", "-c", script], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forward", "found", "met"),
    [
        (False, f"unreachable from 3/3 peers, who see this node at {ROUTER}", "not met"),
        (True, "reachable from 3/3 peers", "met"),
    ],
    ids=["masqueraded", "forwarded"],
)
def test_a_port_behind_a_router_and_its_node_that_is_met_through_a_relay(
    forward: bool, found: str, met: str
) -> None:
    if reason := refusal():
        pytest.skip(f"no router between namespaces here: {reason}")
    assert run(forward) == [
        f"doctor: port {PORT} {found}",
        f"visitor: {met} at the router, met through the relay",
    ]


def outside_host(address: str) -> Host:
    return Host(address.encode().ljust(32), listen=address, port=PORT)


def home_host() -> Host:
    return Host(b"home".ljust(32), listen=HOME, port=PORT)


def location(address: str, host: Host) -> str:
    return f"/ip4/{address}/tcp/{PORT}/p2p/{host.peer_id}"


async def home() -> None:
    """The node behind the router, until the visitor has been here."""
    outside = [location(address, outside_host(address)) for address in OUTSIDE]
    met = trio.Event()

    async def echo(peer: str, message: object) -> object:
        met.set()
        return message

    async with home_host().running() as host, trio.open_nursery() as nursery:
        host.serve(ECHO, echo)
        reach = Reachability(host)
        for address in outside:
            await connected(host, address)
        findings = check_reach([asdict(report) for report in await reach.look()], len(host.connected()))
        print("\n".join(f"doctor: {finding.cause}" for finding in findings), flush=True)
        await nursery.start(Relays(host, relays=outside[:1]).run)
        await met.wait()
        await trio.sleep(1)  # the answer is to get out
        nursery.cancel_scope.cancel()


async def outside() -> None:
    """Three peers that check and one of which relays, and a visitor who knows the relay only."""
    hosts = [outside_host(address) for address in OUTSIDE]
    async with (
        hosts[0].running(), hosts[1].running(), hosts[2].running(),
        outside_host(VISITOR).running() as visitor, trio.open_nursery() as nursery,
    ):  # fmt: skip
        for host in hosts:
            Reachability(host)
        await nursery.start(Relays(hosts[0], serve=True).run)
        await nursery.start(Relays(visitor).run)
        hidden = home_host()
        circuit = f"{location(OUTSIDE[0], hosts[0])}/p2p-circuit/p2p/{hidden.peer_id}"
        await connected(visitor, circuit)
        assert await visitor.request(hidden.peer_id, ECHO, 0, 10) == 0
        through = "through the relay" if visitor.remote_ip(hidden.peer_id) is None else "directly"
        print(f"visitor: {await at_the_router(hidden)}, met {through}", flush=True)
        nursery.cancel_scope.cancel()


async def at_the_router(hidden: Host) -> str:
    async with Host(os.urandom(32), port=None).running() as stranger:
        try:
            await stranger.connect(location(ROUTER, hidden), 3)
        except RemoteError:
            return "not met at the router"
        return "met at the router"


async def connected(host: Host, address: str) -> None:
    """Connect, again and again while the other side starts."""
    with trio.fail_after(25):
        while True:
            try:
                await host.connect(address)
                return
            except RemoteError:
                await trio.sleep(0.2)


if __name__ == "__main__":
    trio.run({"home": home, "outside": outside}[sys.argv[1]])
