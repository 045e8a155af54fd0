"""Hosts that are network namespaces, joined by a bridge that has a namespace of its own.

Nothing of it is ever seen in the machine's own namespace: no interface, no address, no rule. The namespaces
are held by file descriptors, so they go when this process and the hosts' programs do. To look inside one:
`nsenter --net=/proc/<pid of any program of the host>/ns/net`.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from p2pml.lab import cleanup, netns, procs
from p2pml.lab.errors import LabError
from p2pml.lab.hosts.base import Roster
from p2pml.lab.hosts.local import LocalHandle, spawn
from p2pml.lab.hosts.parts import Linked, Signalled
from p2pml.lab.network import DEVICE, Network, Port, Shaping
from p2pml.lab.signals import deferred

T = TypeVar("T")
SUBNET = ipaddress.ip_network("198.18.0.0/16")
_BRIDGE = "br0"
_MTU = 1500


def _netlink(namespace: int, work: Callable[[Any], T]) -> T:
    """Run `work` with a netlink socket of a namespace.

    Raises:
        LabError: the kernel refuses, or pyroute2 is not installed.
    """
    try:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError
    except ImportError:
        raise LabError("pyroute2 is not installed", "install p2pml with its extra `lab`") from None

    def inside() -> T:
        with IPRoute() as route:
            return work(route)

    try:
        return netns.call(netns.held(namespace), inside)
    except NetlinkError as error:
        raise LabError(
            f"the kernel refused: {error}", "network namespaces need root or CAP_NET_ADMIN"
        ) from None


def _up(route: Any, name: str, **more: Any) -> int:
    index: int = route.link_lookup(ifname=name)[0]
    route.link("set", index=index, state="up", **more)
    return index


class Namespaces(Linked, Signalled):
    """See `base.Backend`.

    Args:
        run: the run's id.
        work: where the hosts' folders are made.
        folder: the run's own folder.
        shaping: which backend delays and loses packets.
        seed: of losses and jitter.
    """

    kind = "namespaces"
    shared_loopback = False

    def __init__(
        self, run: str, work: Path, folder: Path, *, shaping: Shaping = "auto", seed: int = 0
    ) -> None:
        self.run_id = run
        self._roster = Roster(run, work)
        self._fds: dict[str, int] = {}
        self._hub: int | None = None
        self._places: dict[str, int] = {}
        self._handles: dict[str, list[LocalHandle]] = {}
        if not netns.may_create():
            raise LabError(
                "this process may not make network namespaces",
                "be root, or have CAP_SYS_ADMIN and CAP_NET_ADMIN",
            )
        self._network = Network(folder, self._roster.environment("", {}), shaping, seed)
        self.shaping: str = self._network.shaping

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts in order."""
        return tuple(self._places)

    def describe(self) -> str:
        """What a report says."""
        return (
            f"{len(self._places)} hosts as network namespaces in {SUBNET}, shaped by tbf and {self.shaping}"
        )

    def start(self, names: Sequence[str]) -> None:
        """Make the bridge, then each host's namespace and cable."""
        if self._hub is None:
            self._hub = netns.create()
            _netlink(self._hub, _make_bridge)
        for name in names:
            with deferred():
                self._places[name] = self._roster.add(name)
                self._plug(name)

    def run(self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path) -> LocalHandle:
        """Start a program in the host's namespace."""
        self._roster.check(name, up=True)
        namespace = netns.held(self._fds[name])
        handle = spawn(argv, self._roster.environment(name, env), log, self.folder(name), namespace)
        self._handles.setdefault(name, []).append(handle)
        return handle

    def address(self, name: str) -> str:
        """The host's address in 198.18.0.0/16."""
        self._roster.check(name)
        return str(SUBNET[self._places[name] + 1])

    def folder(self, name: str) -> Path:
        """The host's folder."""
        return self._roster.folder(name)

    def kill(self, name: str) -> None:
        """Kill every process of the host and let its namespace go, cable and all."""
        self._roster.check(name)
        with deferred():
            self._roster.up[name] = False
            procs.kill_all(self._roster.run, name)
            for handle in self._handles.pop(name, []):
                handle.end()
            self._network.detach(name)
            if name in self._fds:
                self._unplug(name)

    def restart(self, name: str) -> None:
        """A new namespace with the old address, link and partition."""
        self.kill(name)
        with deferred():
            self._plug(name)

    def stop(self) -> None:
        """Kill every process of the run and let the namespaces go."""
        try:
            cleanup.remove(self._roster.run, containers=False)
            for handle in [handle for handles in self._handles.values() for handle in handles]:
                handle.end()
        finally:
            self._network.close()
            for fd in [*self._fds.values(), *([self._hub] if self._hub is not None else [])]:
                os.close(fd)
            self._fds.clear()
            self._hub = None

    def _port_name(self, name: str) -> str:
        return f"port{self._places[name]}"

    def _plug(self, name: str) -> None:
        assert self._hub is not None
        port, address = self._port_name(name), self.address(name)
        # The same after a restart, or the others would go on asking for the old one.
        mac = "02:00:" + ipaddress.ip_address(address).packed.hex(":")
        fd = self._fds[name] = netns.create()

        def hub_side(route: Any) -> None:
            peer = {"ifname": DEVICE, "net_ns_fd": fd, "mtu": _MTU}
            route.link("add", ifname=port, kind="veth", mtu=_MTU, peer=peer)
            _up(route, port, master=route.link_lookup(ifname=_BRIDGE)[0])

        def host_side(route: Any) -> None:
            _up(route, "lo")
            route.addr(
                "add", index=_up(route, DEVICE, address=mac), address=address, prefixlen=SUBNET.prefixlen
            )

        _netlink(self._hub, hub_side)
        _netlink(fd, host_side)
        self._network.attach(name, Port(address, netns.held(fd), netns.held(self._hub), port))
        self._roster.up[name] = True

    def _unplug(self, name: str) -> None:
        """Take the cable out by hand: the namespace's own end may be held a little longer by a dying
        process."""
        assert self._hub is not None
        port = self._port_name(name)

        def work(route: Any) -> None:
            for index in route.link_lookup(ifname=port):
                route.link("del", index=index)

        _netlink(self._hub, work)
        os.close(self._fds.pop(name))


def _make_bridge(route: Any) -> None:
    route.link("add", ifname=_BRIDGE, kind="bridge", mtu=_MTU)
    _up(route, _BRIDGE)
