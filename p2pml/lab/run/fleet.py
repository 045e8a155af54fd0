"""The nodes of a scenario on the hosts of a backend: homes, genesis, daemons."""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pml.client import NodeClient
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home
from p2pml.lab.errors import LabError
from p2pml.lab.hosts.base import Backend, Handle
from p2pml.lab.run.private import give
from p2pml.node.setup import account_of, make_genesis, make_keys, multiaddress, set_up
from p2pml.scenario.spec import Scenario

TOKEN = 10**8
ALLOCATION = 1000 * TOKEN
"""What each founder has at the start, base units."""
PORT, API_PORT, _ANY = 9470, 9471, 0
_LOOPBACK = "127.0.0.1"
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_BOOTSTRAPS = 2


class Api:
    """A node's API over a connection that is kept and made again when it broke; for one thread."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._client: NodeClient | None = None

    def get(self, path: str, **query: Any) -> Any:
        """As `NodeClient.get`."""
        return self._call("get", path, **query)

    def post(self, path: str, body: Any, timeout_s: float | None) -> Any:
        """As `NodeClient.post`."""
        return self._call("post", path, body, timeout_s=timeout_s)

    def close(self) -> None:
        """Let go of the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.__exit__(None, None, None)

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        if self._client is None:
            self._client = NodeClient(self._home).__enter__()
        try:
            return getattr(self._client, method)(*arguments, **options)
        except UserError as error:
            if error.code in (ExitCode.DAEMON_DOWN, ExitCode.NETWORK):
                self.close()
            raise


@dataclass(slots=True)
class Node:
    """One node; `state` is `up`, `paused` or `down`, `crashed` says how a daemon ended that nobody killed."""

    name: str
    home: Home
    address: str
    port: int
    api_port: int
    peer_id: str
    account: str = ""
    state: str = "down"
    founder: bool = True
    handle: Handle | None = None
    api: Api = field(init=False)

    def __post_init__(self) -> None:
        self.api = Api(self.home)

    @property
    def multiaddr(self) -> str:
        """Where other nodes reach it."""
        return multiaddress(self.address, self.port, self.peer_id)

    @property
    def log(self) -> Path:
        """What its daemon prints."""
        return self.home.logs / "daemon.out"

    def last_words(self, lines: int = 3) -> str:
        """The end of what its daemon printed."""
        with suppress(OSError):
            return " | ".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""


class Fleet:
    """All nodes of a scenario; its methods are for the thread that runs the scenario.

    Args:
        hosts: where they run.
        scenario: who they are.
        transport: what their `config.toml` says of it.
    """

    def __init__(self, hosts: Backend, scenario: Scenario, transport: str) -> None:
        self.hosts = hosts
        self.scenario = scenario
        self.transport = transport
        self.nodes: dict[str, Node] = {}
        self.changed = threading.Event()
        self._genesis = ""

    def found(self) -> None:
        """Make the founders' hosts and homes and one genesis of them all; start every daemon."""
        self.hosts.start(self.scenario.founders)
        for name in self.scenario.founders:
            self.nodes[name] = self._place(name)
        for node in self.nodes.values():
            self._set_up(node)
        homes = [node.home.root for node in self.nodes.values()]
        scenario = self.scenario
        self._genesis = make_genesis(homes, scenario.preset, scenario.name, {}, ALLOCATION, scenario.params)
        for node in self.nodes.values():
            self._admit(node)

    def join(self, name: str) -> Node:
        """Add a node that is no founder."""
        self.hosts.start([name])
        node = self._place(name)
        node.founder = False
        self._set_up(node)
        self.nodes[name] = node
        self._admit(node)
        return node

    def kill(self, name: str) -> None:
        """Pull a node's plug."""
        self.nodes[name].state = "down"
        self.hosts.kill(name)
        self.nodes[name].api.close()

    def restart(self, name: str) -> None:
        """Start a node again on its own disk."""
        self.hosts.restart(name)
        self._start(self.nodes[name])

    def pause(self, name: str) -> None:
        """Freeze a node."""
        self.nodes[name].state = "paused"
        self.hosts.pause(name)

    def resume(self, name: str) -> None:
        """Let a frozen node go on."""
        self.hosts.resume(name)
        self.nodes[name].state = "up"

    def live(self) -> list[Node]:
        """The nodes that run."""
        return [node for node in self.nodes.values() if node.state == "up"]

    def node(self, name: str) -> Node:
        """A node by name; raises LabError when it does not run."""
        node = self.nodes[name]
        if node.state != "up":
            raise LabError(f"{name} is {node.state} at this point", "restart it first, or name another node")
        return node

    def check_alive(self) -> None:
        """Raise LabError, with its last words, when a daemon has ended by itself."""
        for node in self.live():
            if node.handle is not None and node.handle.returncode is not None:
                code, node.state = node.handle.returncode, "down"
                raise LabError(
                    f"{node.name}'s daemon ended with code {code}: {node.last_words()}", f"see {node.log}"
                )

    def close(self) -> None:
        """Let go of every connection."""
        for node in self.nodes.values():
            node.api.close()

    def _place(self, name: str) -> Node:
        home = Home(self.hosts.folder(name) / "home")
        address = self.hosts.address(name)
        port = _free_port() if address == _LOOPBACK else PORT
        api_port = _ANY if self.hosts.shared_loopback else API_PORT
        return Node(name, home, address, port, api_port, make_keys(home))

    def _set_up(self, node: Node) -> None:
        first = [self.nodes[name] for name in self.scenario.founders[:_BOOTSTRAPS]]
        settings: dict[str, Any] = {
            "name": node.name,
            "listen": node.address,
            "port": node.port,
            "api_port": node.api_port,
            "bootstrap": [other.multiaddr for other in first if other.name != node.name],
            "mdns": False,  # who knows whom is the scenario's to say
            "trainer": self.scenario.is_trainer(node.name),
            "worker_threads": 1 if self.scenario.needs_worker(node.name) else 0,
            "transport": self.transport,
            "rating": self.scenario.rating is not None,
        }
        if self.scenario.rating is not None:
            settings |= {
                "rating_lanes": self.scenario.rating.lanes,
                "rating_cap": self.scenario.rating.cap,
            }
        private = self.scenario.private
        if private is not None and node.name in private.owners:
            asking = account_of(self.nodes[private.requester].home)
            folder = self.hosts.folder(node.name) / "data"
            settings["private"] = [give(private, node.name, folder, asking)]
        node.account = set_up(node.home, settings)["account"]

    def _admit(self, node: Node) -> None:
        node.home.genesis_file.write_text(self._genesis, encoding="utf-8")
        if self.hosts.shaping != "none":
            self.hosts.shape(node.name, self.scenario.default_link)
        self._start(node)

    def _start(self, node: Node) -> None:
        argv = [sys.executable, "-m", "p2pml", "daemon", "--home", str(node.home.root)]
        env = {key: os.environ[key] for key in ("P2PML_DEBUG",) if key in os.environ}
        node.handle = self.hosts.run(node.name, argv, {**dict.fromkeys(_ONE_THREAD, "1"), **env}, node.log)
        node.state = "up"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])
