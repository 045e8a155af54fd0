"""`p2pml invite`, `join`: a friend's daemon gets onto the network of a running one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from p2pml.cli.app import run
from p2pml.cli.local_network import LocalNetwork, free_ports
from p2pml.client import NodeClient
from p2pml.errors import UserError
from p2pml.home import Home
from p2pml.node.invite import Invite
from p2pml.node.joining import join

pytestmark = pytest.mark.slow


@contextmanager
def daemon(home: Path) -> Iterator[None]:
    """A daemon of its own process, which ends with the block."""
    command = [sys.executable, "-m", "p2pml", "daemon", "--home", str(home), "--stop-with-stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(60) == 0


def test_a_friend_joins_by_websocket_and_follows_the_chain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LocalNetwork(tmp_path / "net", 1, workers=False) as network:
        first = network.nodes[0]
        (port,) = free_ports(1)
        config = first.home.config_file
        config.write_text(config.read_text().replace("websocket_port = 0", f"websocket_port = {port}"))
        network.start()
        network.wait("no block", lambda: first.get("/status")["head"]["height"] >= 1 or None, 60)
        websocket = next(item for item in first.get("/status")["addresses"] if "/ws/" in item)
        assert f"/tcp/{port}/ws/" in websocket

        assert run(["invite", "--home", str(first.home.root), "--address", websocket]) == 0
        text = capsys.readouterr().out.strip()
        assert Invite.decode(text).addresses == (websocket,)
        mine = tmp_path / "friend"
        options = ["--port", "0", "--api-port", "0", "--listen", "127.0.0.1", "--no-trainer"]
        assert run(["join", text, "--home", str(mine), *options]) == 0
        assert f"next: p2pml daemon --home {mine}" in capsys.readouterr().err
        with daemon(mine):
            network.wait("the friend has no block", lambda: _synced(mine, 1), 60)
            seen = _status(mine)
            assert (seen["peers"], seen["chain_id"]) == (1, first.get("/status")["chain_id"])


def _status(home: Path) -> dict[str, Any]:
    with NodeClient(Home(home)) as node:
        answer: dict[str, Any] = node.get("/status")
        return answer


def _synced(home: Path, height: int) -> bool | None:
    try:
        return _status(home)["head"]["height"] >= height or None
    except UserError:
        return None


def test_a_genesis_too_large_for_the_text_is_fetched_from_the_inviter(tmp_path: Path) -> None:
    with LocalNetwork(tmp_path / "net", 1, workers=False) as network:
        first = network.nodes[0]
        network.start()
        chain_id = bytes.fromhex(network.wait("no answer", lambda: first.get("/status")["chain_id"], 60))
        home = Home(tmp_path / "friend")
        nobody = first.multiaddr.rpartition("/tcp/")[0] + (f"/tcp/1/p2p/{first.peer_id}")
        join(home, Invite("net", chain_id, (nobody, first.multiaddr)), {})
        assert home.genesis_file.read_bytes() == first.home.genesis_file.read_bytes()
        with pytest.raises(UserError, match="cannot be fetched"):
            join(Home(tmp_path / "other"), Invite("net", bytes(32), (first.multiaddr,)), {})
