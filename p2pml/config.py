"""A node's `config.toml`. It belongs to its user: `p2pml init` writes it once, nothing rewrites it later."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlsplit

from p2pml import private_config
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home
from p2pml.private_config import PrivateDataset

DEFAULT_PORT = 9470
DEFAULT_API_PORT = 9471
TRANSPORTS = ("stock", "fast")
"""What `transport` may say."""
DEFAULT_TRANSPORT = os.environ.get("P2PML_TRANSPORT", "fast")
"""What it says by default; the variable lets one run, of the tests for instance, be made on the other."""


@dataclass(frozen=True, slots=True)
class Config:
    """What `config.toml` may say.

    Args:
        name: how this node is called in lists that people read, at most 32 characters.
        listen: the IP address that the peer-to-peer port is bound to.
        port: the peer-to-peer TCP port; 0 lets the system choose one.
        websocket_port: the port for peers that come by WebSocket; 0 for none.
        bittorrent_port: the TCP port for ordinary BitTorrent clients, for public data sets; 0 for none.
        api_port: the port of the read-only HTTP API on 127.0.0.1; 0 lets the system choose one.
        bootstrap: multiaddresses (with `/p2p/<peer id>`) of nodes to connect to at start.
        mdns: whether to find peers, and be found, on the local network; never when listening on loopback.
        relay: whether this node forwards for peers that cannot be dialled.
        relays: multiaddresses of nodes to be reached through, for a node that cannot be dialled.
        idle: whether this validator is silent while nothing waits, but for an epoch's heartbeat.
        trainer: whether this node offers to train for other nodes' jobs.
        worker: `wss://host:port` of a worker on another machine; empty for a process of this node.
        worker_token_file: the secret shared with that one; a relative path starts at the home.
        worker_fingerprint: SHA-256 of its certificate; empty where an authority has signed it.
        worker_threads: threads of the training process; 0 for a node without one.
        worker_cpu: per cent of what these threads could compute that it may use.
        worker_memory_mb: MiB that it may hold; 0 for half of the machine's memory.
        worker_nice: by how much it gives way to everything else on the machine.
        worker_idle_only: whether it rests while other programs use the machine.
        worker_devices: that one training is spread over: GPUs, or else parts of the processor.
        worker_trainers: names of installed trainers (`p2pml.worker.plugins`) that others' jobs may name.
        max_task_minutes: longest training of one task of another node's job.
        max_task_steps: most optimizer steps of one such task.
        max_idle_minutes: how long to wait in another node's job for a task, before it is left.
        max_unsettled_rounds: how many rounds such a job may go on before it pays.
        rating: whether this node, once it is a validator, takes part in rating windows.
        rating_lanes: processes that train in a window; 0 for one per core.
        rating_cap: per cent of a core that each of them may use.
        rating_nice: by how much they, and audits, give way to everything else on the machine.
        rating_watts: what the whole machine draws while it trains; 0 to read its counters, if it has any.
        data_quota_mib: most MiB that fetched data sets may take together; 0 for no bound but the disk's.
        prune: whether blocks below the oldest kept snapshot are dropped; their headers stay.
        checkpoint: `HEIGHT:BLOCK_ID:STATE_ROOT` of a final block that a fresh home begins at; empty for none.
        transport: the code under the streams, `fast` (p2pml's own) or `stock` (libp2p's); peers may differ.
        private: data of this node's owner that others' jobs may train on here and nowhere else.
    """

    name: str = ""
    listen: str = "0.0.0.0"
    port: int = DEFAULT_PORT
    websocket_port: int = 0
    bittorrent_port: int = 0
    api_port: int = DEFAULT_API_PORT
    bootstrap: tuple[str, ...] = ()
    mdns: bool = True
    relay: bool = False
    relays: tuple[str, ...] = ()
    idle: bool = True
    trainer: bool = True
    worker: str = ""
    worker_token_file: str = ""
    worker_fingerprint: str = ""
    worker_threads: int = 1
    worker_cpu: int = 100
    worker_memory_mb: int = 0
    worker_nice: int = 10
    worker_idle_only: bool = False
    worker_devices: int = 1
    worker_trainers: tuple[str, ...] = ()
    max_task_minutes: int = 60
    max_task_steps: int = 1_000_000
    max_idle_minutes: int = 15
    max_unsettled_rounds: int = 1
    rating: bool = True
    rating_lanes: int = 0
    rating_cap: int = 100
    rating_nice: int = 10
    rating_watts: int = 0
    data_quota_mib: int = 0
    prune: bool = False
    checkpoint: str = ""
    transport: str = DEFAULT_TRANSPORT
    private: tuple[PrivateDataset, ...] = ()

    @classmethod
    def parse(cls, text: str, source: str = "config.toml") -> Config:
        """Read the text of a `config.toml`.

        Raises:
            UserError: (code 7) not TOML, an unknown key (the nearest known one is named) or a wrong value.
        """
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise _bad(f"{source}: not valid TOML: {error}", "correct that line") from error
        known = [field.name for field in fields(cls)]
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else "known keys: " + ", ".join(known)
                raise _bad(f"{source}{_line_of(text, key)}: unknown key {key!r}", hint)
        return cls()._with(table, source)

    @classmethod
    def load(cls, home: Home) -> Config:
        """The home's configuration; the defaults when it has no `config.toml`.

        Raises:
            UserError: (code 7) as `parse`, or the file cannot be read.
        """
        try:
            text = home.config_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError) as error:
            raise _bad(f"{home.config_file} cannot be read: {error}", "check the file") from error
        return cls.parse(text, str(home.config_file))

    def override(self, **changes: Any) -> Config:
        """A copy with the changes that are not None, checked like the file's own values."""
        given = {key: value for key, value in changes.items() if value is not None}
        return self._with(given, "command line")

    def to_toml(self) -> str:
        """The text that `p2pml init` writes: every key, with a comment."""
        comments = {
            "name": "how this node is called in lists that people read",
            "listen": "the address that the peer-to-peer port is bound to",
            "port": "peer-to-peer port (0: any free one)",
            "websocket_port": "port for peers that come by WebSocket (0: none)",
            "bittorrent_port": "port for ordinary BitTorrent clients; no trackers without it (0: none)",
            "api_port": "read-only HTTP API on 127.0.0.1 (0: any free one)",
            "bootstrap": "addresses of nodes to connect to: /ip4/…/tcp/…/p2p/…",
            "mdns": "find peers on the local network, and be found there",
            "relay": "forward for peers that nobody can dial",
            "relays": "addresses of nodes to be reached through, when this one cannot be dialled",
            "idle": "publish blocks and votes only while something waits (false: in every slot)",
            "trainer": "offer to train for other nodes' jobs",
            "worker": "wss://host:port of a worker on another machine (empty: a process of this node)",
            "worker_token_file": "the secret shared with it, as `p2pml worker serve` made it",
            "worker_fingerprint": "SHA-256 of its certificate (empty: signed by an authority)",
            "worker_threads": "threads of the training process (0: no training on this node)",
            "worker_cpu": "per cent of what these threads could compute that it may use, 5 to 100",
            "worker_memory_mb": "MiB that it may hold, 1024 or more (0: half of the machine's memory)",
            "worker_nice": "by how much it gives way to everything else on the machine, 0 to 19",
            "worker_idle_only": "let it rest while other programs use the machine",
            "worker_devices": "that one training is spread over: GPUs, or else parts of the processor",
            "worker_trainers": "names of trainers installed on this machine that others' jobs may use",
            "max_task_minutes": "longest training of one task of another node's job",
            "max_task_steps": "most optimizer steps of one such task",
            "max_idle_minutes": "how long to wait in such a job for a task, before it is left",
            "max_unsettled_rounds": "rounds that such a job may go on before it pays",
            "rating": "take part in rating windows, as a validator",
            "rating_lanes": "processes that train in a window (0: one per core)",
            "rating_cap": "per cent of a core that each of them may use",
            "rating_nice": "by how much rating gives way to everything else on the machine, 0 to 19",
            "rating_watts": "what the whole machine draws while it trains (0: read its counters)",
            "data_quota_mib": "most MiB that fetched data sets may take together (0: what the disk has)",
            "prune": "drop old blocks; their headers and snapshots of the state stay",
            "checkpoint": "HEIGHT:BLOCK_ID:STATE_ROOT that a fresh home begins at, from a node you trust",
            "transport": 'the code under the streams: "fast" (p2pml\'s own) or "stock" (libp2p\'s)',
        }
        lines = []
        for key, comment in comments.items():
            lines += [f"# {comment}", f"{key} = {_toml(getattr(self, key))}", ""]
        return "\n".join(lines) + "\n" + private_config.to_toml(self.private, _toml)

    def _with(self, table: Mapping[str, Any], source: str) -> Config:
        values: dict[str, Any] = {}
        for key, value in table.items():
            default = getattr(Config(), key)
            if key == "private":
                try:
                    values[key] = private_config.read_tables(value)
                except ValueError as error:
                    raise _bad(f"{source}: {error}", "correct it") from error
            elif isinstance(default, tuple):
                if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
                    raise _bad(f"{source}: {key} must be a list of strings, not {value!r}", "correct it")
                values[key] = tuple(value)
            elif type(value) is not type(default):
                wanted = {str: "a string", int: "a whole number", bool: "true or false"}[type(default)]
                raise _bad(f"{source}: {key} must be {wanted}, not {value!r}", "correct it")
            else:
                values[key] = value
        result = replace(self, **values)
        result._check(source)
        return result

    def _check(self, source: str) -> None:
        for key in ("port", "websocket_port", "bittorrent_port", "api_port"):
            if not 0 <= getattr(self, key) <= 65535:
                raise _bad(f"{source}: {key} is {getattr(self, key)}", "choose a port from 0 to 65535")
        if self.websocket_port and self.websocket_port == self.port:
            raise _bad(f"{source}: port and websocket_port are both {self.port}", "choose two ports")
        for key in ("port", "websocket_port"):
            if self.bittorrent_port and self.bittorrent_port == getattr(self, key):
                raise _bad(
                    f"{source}: {key} and bittorrent_port are both {self.bittorrent_port}", "choose two ports"
                )
        for key in ("max_task_minutes", "max_task_steps", "max_idle_minutes", "max_unsettled_rounds"):
            if not 1 <= getattr(self, key) < 2**31:
                raise _bad(f"{source}: {key} is {getattr(self, key)}", "choose 1 or more")
        for key, (low, high) in _BOUNDS.items():
            if not low <= getattr(self, key) <= high:
                raise _bad(
                    f"{source}: {key} is {getattr(self, key)}", f"choose a whole number from {low} to {high}"
                )
        if 0 < self.worker_memory_mb < 1024:
            raise _bad(
                f"{source}: worker_memory_mb is {self.worker_memory_mb}",
                "choose 1024 or more, TensorFlow alone takes half of that; or 0 for half of the memory",
            )
        for name in self.worker_trainers:
            if not name.isprintable() or not name or " " in name:
                raise _bad(f"{source}: worker_trainers has {name!r}", "give the names of their entry points")
        if self.worker:
            self._check_remote(source)
        if self.transport not in TRANSPORTS:
            raise _bad(f"{source}: transport is {self.transport!r}", f"use one of: {', '.join(TRANSPORTS)}")
        if len(self.name) > 32 or not self.name.isprintable():
            raise _bad(
                f"{source}: name {self.name!r} is too long or not printable", "use up to 32 characters"
            )
        for address in (*self.bootstrap, *self.relays):
            if not address.startswith("/") or "/p2p/" not in address:
                raise _bad(
                    f"{source}: address {address!r} is not a full multiaddress",
                    "write it as /ip4/<address>/tcp/<port>/p2p/<peer id>, as that node's `p2pml status` does",
                )

    def _check_remote(self, source: str) -> None:
        scheme, host, port, path = _parts_of(self.worker)
        local = scheme == "ws" and host in ("127.0.0.1", "::1", "localhost")
        if not (scheme == "wss" or local) or not host or not port or path:
            raise _bad(
                f"{source}: worker is {self.worker!r}", "write it as wss://host:port; ws:// only on 127.0.0.1"
            )
        if not self.worker_token_file:
            raise _bad(
                f"{source}: worker is set, but no worker_token_file", "copy the file that the worker made"
            )
        if self.worker_fingerprint and local:
            raise _bad(
                f"{source}: worker_fingerprint is set, but {self.worker} shows no certificate",
                "write wss://, or leave worker_fingerprint empty",
            )
        digits = self.worker_fingerprint.replace(":", "").lower()
        if digits and (len(digits) != 64 or not set(digits) <= set("0123456789abcdef")):
            raise _bad(
                f"{source}: worker_fingerprint is not a SHA-256 in hexadecimal digits",
                "copy it from what `p2pml worker serve` prints",
            )


_BOUNDS = {
    "data_quota_mib": (0, 2**31 - 1),
    "worker_threads": (0, 1024),
    "worker_cpu": (5, 100),
    "worker_memory_mb": (0, 1 << 24),
    "worker_nice": (0, 19),
    "worker_devices": (1, 64),
    "rating_lanes": (0, 1024),
    "rating_cap": (1, 100),
    "rating_nice": (0, 19),
    "rating_watts": (0, 1_000_000),
}


def _parts_of(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path; empty ones for what is none."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host.encode("idna")  # as for a look-up
        return parts.scheme, host, parts.port or 0, parts.path.strip("/")
    except ValueError:  # UnicodeError is one
        return "", "", 0, ""


def _bad(cause: str, fix: str) -> UserError:
    return UserError(cause, fix, ExitCode.BAD_CONFIG)


def _line_of(text: str, key: str) -> str:
    """`:<line>` of a top-level key or table in the file, for the error message; empty when not found."""
    for number, line in enumerate(text.splitlines(), start=1):
        start = line.strip().lstrip("[").lstrip("\"'")
        if start.startswith(key):
            return f":{number}"
    return ""


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
