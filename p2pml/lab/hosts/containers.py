"""Hosts that are containers of the Docker engine, with this machine's own programs mounted read-only.

Containers get no privilege and no capability beyond the engine's default: shaping and cutting is done from
outside, in their network namespaces. Their network is internal: nothing leads out of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from p2pml.lab import cleanup, engine, netns, procs
from p2pml.lab.errors import LabError
from p2pml.lab.hosts import skeleton
from p2pml.lab.hosts.base import Roster
from p2pml.lab.hosts.execution import ContainerHandle, execute
from p2pml.lab.hosts.parts import Linked
from p2pml.lab.network import DEVICE, Network, Port, Shaping, tool
from p2pml.lab.signals import deferred

# Ignored SIGCHLD makes the kernel clear away the orphans that come to process 1.
_INIT = ["/bin/sh", "-c", "trap '' CHLD; exec sleep infinity"]
_IMAGE = "p2pml-lab"
_FIRST_ADDRESS = 2  # the engine has .1 itself
_HOST_NET = "/proc/self/ns/net"


class Containers(Linked):
    """See `base.Backend`.

    Args:
        run: the run's id.
        work: where the hosts' folders are made; mounted in every container at the same path.
        folder: the run's own folder, in its registry.
        shaping: which backend delays and loses packets.
        seed: of losses and jitter.

    Raises:
        LabError: no engine, or no right to enter its containers' networks.
    """

    kind = "containers"
    shared_loopback = False

    def __init__(
        self, run: str, work: Path, folder: Path, *, shaping: Shaping = "auto", seed: int = 0
    ) -> None:
        self.run_id = run
        self._roster = Roster(run, work)
        self._labels = {engine.RUN_LABEL: run, engine.REGISTRY_LABEL: str(folder.parent)}
        self._user = f"{os.getuid()}:{os.getgid()}"
        self._places: dict[str, int] = {}
        self._ids: dict[str, str] = {}
        self._handles: list[ContainerHandle] = []
        self._network_name = ""
        self._prefix = ""
        if not netns.may_create():
            raise LabError(
                "this process may not shape containers' networks",
                "be root, or have CAP_SYS_ADMIN and CAP_NET_ADMIN",
            )
        self._network = Network(folder, self._roster.environment("", {}), shaping, seed)
        self.shaping: str = self._network.shaping
        self._client = engine.open_client()

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts in order."""
        return tuple(self._places)

    def describe(self) -> str:
        """What a report says."""
        where = f"containers in {self._prefix}.0/24"
        return f"{len(self._places)} hosts as {where}, shaped by tbf and {self.shaping}"

    def start(self, names: Sequence[str]) -> None:
        """Make the image and the network, then each host's container."""
        with engine.refusals():
            if not self._network_name:
                with deferred():
                    self._make_image()
                with deferred():
                    self._make_network()
            for name in names:
                with deferred():
                    self._places[name] = self._roster.add(name)
                    self._ids[name] = self._make_container(name)
                    self._boot(name)

    def run(self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path) -> ContainerHandle:
        """Start a program in the host's container."""
        self._roster.check(name, up=True)
        log = log.absolute()
        if not log.is_relative_to(self._roster.work):
            raise LabError(f"{log} cannot be seen in a container", f"log within {self._roster.work}")
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = self._roster.environment(name, env)
        handle = execute(self._client, self._ids[name], argv, environment, log, self.folder(name), self._user)
        self._handles.append(handle)
        return handle

    def address(self, name: str) -> str:
        """The host's address in 198.19.0.0/16."""
        self._roster.check(name)
        return f"{self._prefix}.{self._places[name] + _FIRST_ADDRESS}"

    def folder(self, name: str) -> Path:
        """The host's folder."""
        return self._roster.folder(name)

    def pause(self, name: str) -> None:
        """Freeze the container."""
        self._roster.check(name, up=True)
        with engine.refusals():
            self._client.containers.get(self._ids[name]).pause()

    def resume(self, name: str) -> None:
        """Let it go on."""
        self._roster.check(name, up=True)
        with engine.refusals():
            self._client.containers.get(self._ids[name]).unpause()

    def kill(self, name: str) -> None:
        """Kill the container; its disk and the host's folder stay."""
        self._roster.check(name)
        with deferred(), engine.refusals():
            if not self._roster.up[name]:
                return
            self._roster.up[name] = False
            container = self._client.containers.get(self._ids[name])
            if container.status == "paused":
                container.unpause()
            container.kill()
            container.wait()
            self._network.detach(name)

    def restart(self, name: str) -> None:
        """Start the container again: a new network namespace with the old address, link and partition."""
        self.kill(name)
        with deferred(), engine.refusals():
            self._boot(name)

    def stop(self) -> None:
        """Remove the containers, the network and the image."""
        try:
            cleanup.remove(self._roster.run, containers=True)
        finally:
            self._network.close()
            for handle in self._handles:
                handle.close()
            self._client.close()

    def _make_image(self) -> None:
        changes = [f'LABEL {key}="{value}"' for key, value in self._labels.items()]
        self._client.api.import_image_from_data(
            skeleton.image_tar(), repository=_IMAGE, tag=self._roster.run, changes=changes
        )

    def _make_network(self) -> None:
        """The first subnet that nobody has; another run may take it meanwhile, so try the next."""
        import docker

        name = f"p2pml-lab-{self._roster.run}"
        for subnet in engine.free_subnets(self._client):
            pool = docker.types.IPAMPool(subnet=subnet)
            plan = docker.types.IPAMConfig(pool_configs=[pool])
            try:
                self._client.networks.create(
                    name, driver="bridge", internal=True, ipam=plan, labels=self._labels
                )
            except docker.errors.APIError as error:
                if "overlap" in str(error).lower():
                    continue
                raise
            self._network_name, self._prefix = name, subnet.rpartition(".")[0]
            return
        raise LabError(f"no subnet of {engine.SUBNETS} is free", "see `docker network ls`")

    def _make_container(self, name: str) -> str:
        import docker

        if self._places[name] + _FIRST_ADDRESS > 254:
            raise LabError("a lab of containers has at most 253 hosts", "use namespaces")
        mounts = [(path, True) for path in skeleton.read_only_mounts()] + [(self._roster.work, False)]
        endpoint = self._client.api.create_endpoint_config(ipv4_address=self.address(name))
        container = self._client.containers.create(
            f"{_IMAGE}:{self._roster.run}",
            _INIT,
            name=f"p2pml-lab-{self._roster.run}-{name}",
            hostname=name,
            labels={**self._labels, engine.HOST_LABEL: name},
            environment=procs.labels(self._roster.run, name),
            mounts=[docker.types.Mount(str(p), str(p), type="bind", read_only=fixed) for p, fixed in mounts],
            network=self._network_name,
            networking_config={self._network_name: endpoint},
        )
        identity: str = container.id
        return identity

    def _boot(self, name: str) -> None:
        container = self._client.containers.get(self._ids[name])
        container.start()
        container.reload()
        namespace = f"/proc/{container.attrs['State']['Pid']}/ns/net"
        cable = _other_end(namespace)
        # Some engines give an internal network a default route all the same, into a firewall.
        tool(namespace, ["ip", "-batch", "-"], "route flush exact default\n")
        self._network.attach(name, Port(self.address(name), namespace, _HOST_NET, cable))
        self._roster.up[name] = True


def _other_end(namespace: str) -> str:
    """The name, in this machine's own namespace, of the cable end whose other end is the container's
    interface.

    Raises:
        LabError: there is none, as with an engine elsewhere.
    """
    from pyroute2 import IPRoute

    def read_index() -> int:
        with IPRoute() as route:
            index: int = route.get_links(route.link_lookup(ifname=DEVICE)[0])[0].get("link")
            return index

    def read_name() -> str:
        with IPRoute() as route:
            link = route.get_links(wanted)[0]
            name: str = link.get("ifname")
            return name if link.get(("linkinfo", "kind")) == "veth" else ""

    try:
        wanted = netns.call(namespace, read_index)
        name = netns.call(_HOST_NET, read_name)
    except (OSError, IndexError) as error:
        raise LabError(
            f"the container's network cannot be entered: {error}", "use the engine of this machine"
        ) from None
    if not name:
        raise LabError(
            "the container is not joined by a veth cable", "use the engine's default bridge driver"
        )
    return name
