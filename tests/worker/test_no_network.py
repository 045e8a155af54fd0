"""A process that leaves the network, as root and as anybody: its sockets reach nobody, its files stay."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.namespaces import namespace

CODE = """
import ctypes, encodings.idna, os, socket, sys
from p2pml.worker.no_network import leave_network

user = int(sys.argv[3])
if user != os.getuid():
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: who was another one may not look at itself
left = leave_network()
loopback = socket.socket()
loopback.bind(("127.0.0.1", 0))
loopback.listen()
socket.create_connection(loopback.getsockname()).close()
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
    reached = "reached"
except OSError:
    reached = "not reached"
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("198.18.0.1", 9))
    routed = "routed"
except OSError:
    routed = "not routed"
open(sys.argv[2], "w").write("mine")
powers = [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")]
print(left, reached, routed, os.getuid(), user == 0 or int(powers[0], 16) == 0)
"""
ANYBODY = 12345


def lets_leave(user: int) -> bool:
    """Whether the system lets a user do it; asked of the system's own program."""
    command = ["unshare", "--net", "true"] if user == 0 else ["unshare", "--map-root-user", "--net", "true"]
    return subprocess.run(command, capture_output=True, user=user, cwd="/").returncode == 0


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that everybody may enter; pytest's are for us alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.mark.parametrize("user", sorted({os.getuid(), ANYBODY}))
def test_whoever_has_left_the_network_reaches_nobody(user: int, open_folder: Path) -> None:
    if os.getuid() not in (0, user):
        pytest.skip(f"NOT TESTED AS USER {user}: only root can be somebody else")
    if not lets_leave(user):
        pytest.skip(f"NOT TESTED: this system does not let user {user} make a network namespace")
    own = open_folder / "own"
    own.touch()
    if os.getuid() == 0:
        os.chown(own, user, -1)
    before = namespace(os.getpid(), "net")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-c", CODE, str(port), str(own), str(user)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == f"True not reached not routed {user} True"
    assert own.read_text() == "mine"
    assert namespace(os.getpid(), "net") == before


def test_where_the_system_does_not_let_it_nothing_changes() -> None:
    code = """
import ctypes
from p2pml.worker import no_network

class Refusing:
    def __init__(self, name): pass
    def unshare(self, flags): return -1

no_network.ctypes.CDLL = Refusing
print(no_network.leave_network())
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.stdout.strip() == "False", ran.stderr
