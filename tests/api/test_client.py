"""The client of a daemon that goes away between two requests."""

from __future__ import annotations

import gc
import os
import socket
import threading
import warnings
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

import httpx
import pytest

from p2pml.api.server import bind_unix
from p2pml.client import NodeClient, _as_user_error
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home
from p2pml.node.lock import exclusive


class _OneAnswer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"detail": "no", "fix": "yes", "code": 12}, ("no", "yes", ExitCode.NO_TRAINERS)),
        ({"detail": "no", "fix": "yes", "code": 99}, ("no", "yes", ExitCode.FAILURE)),
        ({"code": 12}, ("the daemon answered with HTTP status 409", "", ExitCode.FAILURE)),
        (["no"], ("the daemon answered with HTTP status 409", "", ExitCode.FAILURE)),
    ],
)
def test_what_a_daemon_says_is_told_whatever_its_version(
    body: object, told: tuple[str, str, ExitCode]
) -> None:
    error = _as_user_error(httpx.Response(409, json=body))
    assert (error.cause, error.fix, error.code) == told


def refusal(home: Home) -> UserError:
    with pytest.raises(UserError) as refused, NodeClient(home):
        pass
    assert refused.value.code is ExitCode.DAEMON_DOWN
    return refused.value


def test_a_daemon_that_does_not_listen_yet_is_named(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create()
    assert "no daemon is running" in refusal(home).cause
    with exclusive(home.lock_file):
        assert f"starting or ending: PID {os.getpid()} " in refusal(home).cause  # no socket
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(home.api_socket))
            error = refusal(home)
    assert f"starting or ending: PID {os.getpid()} " in error.cause
    assert "node.log" in error.fix


@pytest.mark.parametrize("depth", [1, 120])
def test_another_users_home_is_named_as_such(tmp_path: Path, depth: int) -> None:
    home = Home(tmp_path / ("x" * depth))
    home.create()
    with bind_unix(home.api_socket) as listener:
        listener.listen()
        home.api_socket.chmod(0)
        home.run_dir.chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # root may everything
        try:
            error = refusal(home)
        finally:
            os.seteuid(user)
            home.run_dir.chmod(0o700)
    assert "another user" in error.cause
    assert "no daemon" not in error.cause


def test_a_daemon_that_is_gone_is_named_and_leaves_no_socket_open(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.run_dir.mkdir()
    with UnixStreamServer(str(home.api_socket), _OneAnswer) as server:
        serving = threading.Thread(target=lambda: [server.handle_request() for _ in range(3)])
        serving.start()
        with NodeClient(home) as client, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResourceWarning)
            assert client.get("/status") == {}
            serving.join()
            server.server_close()
            with pytest.raises(UserError, match="no daemon is running") as refused:
                client.get("/status")
            assert refused.value.code is ExitCode.DAEMON_DOWN
            del refused
            gc.collect()
    assert not [item for item in caught if "AF_UNIX" in str(item.message) or "socket" in str(item.message)]
