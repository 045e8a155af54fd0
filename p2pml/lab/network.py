"""The network between hosts that have a network namespace each: shape it, cut it, heal it, while it runs.

Rate is the kernel's token bucket on both ends of a host's cable: on the host's side for what it sends, on the
bridge's side for what it receives. Delay, jitter and loss happen on arrival: by netem on the bridge's side
where the kernel has it, otherwise by a user-space process on the host's side.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from p2pml.lab import netns, rules
from p2pml.lab.delays import Delays
from p2pml.lab.errors import LabError
from p2pml.lab.pump import QUEUE
from p2pml.scenario.links import UNSHAPED, Link

Shaping = Literal["auto", "netem", "nfqueue"]
DEVICE = "eth0"
_COMMAND_S = 30.0
_MAX_SEGMENTS = 65_535
_SYSCTL = Path("/proc/sys/net")
_PACKAGES = "install the Debian packages iproute2 and iptables"
# bbr, some machines' default, hides loss, which the lab is to show. Only what the administrator allows
# to everybody can be set in a namespace; reno always is.
_CONGESTION_CONTROLS = ("cubic", "reno")


@dataclass(frozen=True, slots=True)
class Port:
    """Where a host is plugged in.

    Args:
        address: the host's IPv4 address.
        namespace: path of its network namespace; its interface there is `eth0`.
        hub: path of the namespace that holds the bridge.
        hub_device: the bridge's end of the host's cable.
    """

    address: str
    namespace: str
    hub: str
    hub_device: str


def tool(namespace: str, argv: Sequence[str], text: str) -> None:
    """Run a command inside a network namespace with `text` on its standard input.

    Raises:
        LabError: it is not installed or it failed; with its own words.
    """
    try:
        done = netns.call(
            namespace,
            lambda: subprocess.run(
                argv, input=text, text=True, capture_output=True, timeout=_COMMAND_S, check=False
            ),
        )
    except FileNotFoundError as error:
        raise LabError(f"cannot run {argv[0]}: {error}", _PACKAGES) from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().replace("\n", "; ")
        raise LabError(f"{' '.join(argv)} failed: {said}", "the kernel may lack what it needs")


def has_netem() -> bool:
    """Whether this kernel has netem; tried in a namespace that is gone afterwards."""
    command = ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    fd = netns.create()
    try:
        tool(netns.held(fd), command, "")
    except LabError:
        return False
    finally:
        os.close(fd)
    return True


class Network:
    """Links and partitions of hosts; both outlive a host's restart.

    Args:
        folder: for the delay process's log.
        env: environment of the delay process.
        shaping: which backend; `auto` takes netem where the kernel has it.
        seed: of losses and jitter.
    """

    def __init__(self, folder: Path, env: dict[str, str], shaping: Shaping, seed: int) -> None:
        self.shaping: Literal["netem", "nfqueue"] = (
            shaping if shaping != "auto" else "netem" if has_netem() else "nfqueue"
        )
        self.delays = Delays(folder, env, seed)
        self._ports: dict[str, Port] = {}
        self._links: dict[str, Link] = {}
        self._groups: list[frozenset[str]] = []
        self._addresses: dict[str, str] = {}
        self._queued: set[str] = set()

    def attach(self, host: str, port: Port) -> None:
        """Take over a host's fresh network namespace; a link or partition that it had before applies at
        once."""
        _write_sysctls(port.namespace)
        tool(port.namespace, ["iptables-restore", "--noflush"], rules.hook_rules())
        joins_partition = bool(self._groups) and host not in self._addresses
        self._ports[host] = port
        self._addresses[host] = port.address
        if host in self._links:
            self._apply_link(host)
        for each in list(self._ports) if joins_partition else [host]:
            self._apply_rules(each)

    def detach(self, host: str) -> None:
        """Forget a host's namespace, which is gone; its link and partition are kept for the next one."""
        self._ports.pop(host, None)
        if host in self._queued:
            self._queued.discard(host)
            self.delays.remove(host)

    def shape(self, host: str, link: Link) -> None:
        """Give a host its link, at once when it is attached and otherwise when it comes."""
        self._links[host] = link
        if host in self._ports:
            self._apply_link(host)
            self._apply_rules(host)

    def partition(self, groups: Sequence[Collection[str]]) -> None:
        """Let hosts reach only their own group; hosts in no group form one more.

        Raises:
            LabError: a host is unknown or in two groups.
        """
        named = [host for group in groups for host in group]
        if unknown := sorted(set(named) - set(self._addresses)):
            raise LabError(
                f"no host is called {unknown[0]!r}", f"there are {', '.join(sorted(self._addresses))}"
            )
        if len(named) != len(set(named)):
            raise LabError("a host is in two groups of the partition", "name each host once")
        self._groups = [frozenset(group) for group in groups if group]
        for host in list(self._ports):
            self._apply_rules(host)

    def heal(self) -> None:
        """End the partition."""
        self._groups = []
        for host in list(self._ports):
            self._apply_rules(host)

    def close(self) -> None:
        """End the delay process; everything else goes with the namespaces."""
        self.delays.close()

    def _apply_link(self, host: str) -> None:
        port, link = self._ports[host], self._links[host]
        # One packet of the wire at a time: a rate or a loss must not meet 64 KiB super-packets.
        segments = 1 if link.rate is not None or link.loss else _MAX_SEGMENTS
        tool(port.namespace, ["ip", "-batch", "-"], f"link set dev {DEVICE} gso_max_segs {segments}\n")
        tool(port.namespace, ["tc", "-batch", "-"], "\n".join(rules.rate_commands(DEVICE, link)) + "\n")
        towards = rules.netem_commands if self.shaping == "netem" else rules.rate_commands
        tool(port.hub, ["tc", "-batch", "-"], "\n".join(towards(port.hub_device, link)) + "\n")
        if self.shaping == "netem":
            return
        if host in self._queued:
            self.delays.set_link(host, link)
        elif link.delays:
            self.delays.add(host, port.namespace, link)
            self._queued.add(host)

    def _apply_rules(self, host: str) -> None:
        link = self._links.get(host, UNSHAPED)
        queue = QUEUE if link.delays and self.shaping == "nfqueue" else None
        text = rules.host_rules(DEVICE, queue, self._blocked(host))
        tool(self._ports[host].namespace, ["iptables-restore", "--noflush"], text)

    def _blocked(self, host: str) -> list[str]:
        """The addresses outside the host's group."""
        mine = self._group(host)
        return [address for name, address in self._addresses.items() if self._group(name) != mine]

    def _group(self, host: str) -> int:
        """The number of a host's group; those in none share -1."""
        return next((number for number, group in enumerate(self._groups) if host in group), -1)


def _write_sysctls(namespace: str) -> None:
    """Settings of a host's own network stack: loss is felt, and IPv6 goes round no partition."""

    def write() -> None:
        allowed = (_SYSCTL / "ipv4/tcp_allowed_congestion_control").read_text().split()
        chosen = next((name for name in _CONGESTION_CONTROLS if name in allowed), None)
        if chosen:
            (_SYSCTL / "ipv4/tcp_congestion_control").write_text(chosen)
        if (ipv6 := _SYSCTL / "ipv6/conf/all/disable_ipv6").exists():
            ipv6.write_text("1")

    netns.call(namespace, write)
