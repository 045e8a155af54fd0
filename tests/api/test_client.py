"""The client of a daemon that goes away between two requests."""

from __future__ import annotations

import gc
import threading
import warnings
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

import pytest

from p2pml.client import NodeClient
from p2pml.config import Home
from p2pml.errors import ExitCode, UserError


class _OneAnswer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments: object) -> None:
        pass


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
