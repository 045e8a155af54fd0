"""Counts what this process sends to other nodes; Python imports it where it is on PYTHONPATH.

`P2PML_COUNT_PORTS` names the nodes' peer-to-peer ports, separated by commas: a connection with one of them
at an end is one between nodes. The sum, 8 bytes big-endian, is kept in the file `P2PML_COUNT_FILE`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

_PORTS = frozenset(int(port) for port in os.environ.get("P2PML_COUNT_PORTS", "").split(",") if port)
_sent = 0


def _is_between_nodes(one: socket.socket) -> bool:
    try:
        ends = one.getsockname(), one.getpeername()
    except OSError:
        return False
    return any(isinstance(end, tuple) and end[1] in _PORTS for end in ends)


def _counting(send: Callable[..., int]) -> Callable[..., int]:
    def counted(self: socket.socket, *args: Any) -> int:
        global _sent
        count = send(self, *args)
        if _is_between_nodes(self):
            _sent += count
            os.pwrite(_file, _sent.to_bytes(8, "big"), 0)
        return count

    return counted


if _PORTS:
    _file = os.open(os.environ["P2PML_COUNT_FILE"], os.O_CREAT | os.O_RDWR, 0o600)
    socket.socket.send = _counting(socket.socket.send)  # type: ignore[method-assign]
    socket.socket.sendmsg = _counting(socket.socket.sendmsg)  # type: ignore[method-assign]
    socket.socket.sendto = _counting(socket.socket.sendto)  # type: ignore[method-assign]
