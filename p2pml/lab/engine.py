"""The container engine, by the Docker SDK; everything in it that is the lab's carries the label
`p2pml.lab=<run id>`."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pml.lab.errors import LabError

RUN_LABEL = "p2pml.lab"
REGISTRY_LABEL = "p2pml.lab.registry"
HOST_LABEL = "p2pml.lab.host"
# RFC 2544 sets 198.18.0.0/15 aside for tests of networks: no real host has such an address.
SUBNETS = ipaddress.ip_network("198.19.0.0/16")
_DEFAULT_HOST = "unix:///var/run/docker.sock"
_TIMEOUT_S = 60
_WORKERS = 4
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Gone:
    """How many things of a run were removed."""

    containers: int
    networks: int
    images: int


@contextlib.contextmanager
def connect() -> Iterator[Any]:
    """A client of the engine that `DOCKER_HOST` or the default socket leads to.

    Raises:
        LabError: the SDK is not installed, no engine answers, or the engine refused something within.
    """
    client = open_client()
    try:
        with refusals():
            yield client
    finally:
        client.close()


def open_client() -> Any:
    """A connected client; close it. Raises as `connect`."""
    try:
        import docker
    except ImportError:
        raise LabError(
            "the Docker SDK for Python is not installed", "install p2pml with its extra `lab`"
        ) from None
    _knock()
    try:
        client = docker.from_env(timeout=_TIMEOUT_S)
    except docker.errors.DockerException as error:
        raise _no_engine(error) from None
    try:
        client.ping()
    except Exception as error:  # the SDK lets those of its HTTP library through
        client.close()
        raise _no_engine(error) from None
    return client


def _knock() -> None:
    """Refuse a Unix socket that nobody listens on: the SDK would leave its own end of it open."""
    scheme, _, path = os.environ.get("DOCKER_HOST", _DEFAULT_HOST).partition("://")
    if scheme != "unix":
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            raise _no_engine(error) from None


def _no_engine(error: Exception) -> LabError:
    return LabError(
        f"no container engine answers: {error}",
        "install and start the Debian package docker.io, and be root or in the group docker",
    )


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turn the SDK's errors within into LabError."""
    import docker
    import requests

    try:
        yield
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise LabError(f"the container engine refused: {error}") from error


def is_there() -> bool:
    """Whether an engine answers."""
    try:
        open_client().close()
    except LabError:
        return False
    return True


def of_run(run: str) -> dict[str, str]:
    """The engine's filter for what belongs to a run."""
    return {"label": f"{RUN_LABEL}={run}"}


def runs(client: Any) -> dict[str, Path]:
    """Every run that has anything in the engine, with the registry that it belongs to."""
    everything = {"label": RUN_LABEL}
    found: dict[str, Path] = {}
    labels = [
        item.labels for item in client.containers.list(all=True, filters=everything, ignore_removed=True)
    ]
    labels += [item.attrs.get("Labels") for item in client.networks.list(filters=everything)]
    labels += [item.labels for item in client.images.list(filters=everything)]
    for each in labels:
        if each and each.get(RUN_LABEL):
            found[each[RUN_LABEL]] = Path(each.get(REGISTRY_LABEL, "/nonexistent"))
    return found


def remove(client: Any, run: str) -> Gone:
    """Remove a run's containers, network and image, again until none is left: one may be in the making.

    Raises:
        LabError: something stays.
    """
    gone = [0, 0, 0]
    for _ in range(_TRIES):
        containers = client.containers.list(all=True, filters=of_run(run), ignore_removed=True)
        with ThreadPoolExecutor(_WORKERS) as pool:
            gone[0] += sum(pool.map(_remove_container, containers))
        networks = client.networks.list(filters=of_run(run))
        gone[1] += sum(_quietly(network.remove) for network in networks)
        images = client.images.list(filters=of_run(run))
        gone[2] += sum(_quietly(image.remove, force=True) for image in images)
        if not (containers or networks or images):
            return Gone(*gone)
    raise LabError(f"lab run {run} cannot be removed from the container engine", "see `docker ps -a`")


def _remove_container(container: Any) -> bool:
    _quietly(container.unpause)  # a frozen one cannot be killed
    return _quietly(container.remove, force=True, v=True)


def _quietly(call: Any, **arguments: Any) -> bool:
    """Call; false when the engine says that it is gone or busy, which the next look will show."""
    import docker

    try:
        call(**arguments)
    except docker.errors.APIError:
        return False
    return True


def free_subnets(client: Any) -> Iterator[str]:
    """The /24s of 198.19.0.0/16 that no network of the engine and no route of this machine uses."""
    used = [
        ipaddress.ip_network(pool["Subnet"], strict=False)
        for network in client.networks.list()
        for pool in (network.attrs.get("IPAM") or {}).get("Config") or []
        if "." in pool.get("Subnet", "")
    ] + _routes()
    for subnet in SUBNETS.subnets(new_prefix=24):
        if not any(subnet.overlaps(other) for other in used):
            yield str(subnet)


def _routes() -> list[ipaddress.IPv4Network]:
    """This machine's IPv4 routes but for the default one."""
    found = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        words = line.split()
        address, mask = (int.from_bytes(bytes.fromhex(word), "little") for word in (words[1], words[7]))
        if mask:
            found.append(ipaddress.IPv4Network((address, bin(mask).count("1"))))
    return found
