"""Which program a peer id names (BEP 20). It is what the peer says, so for display only."""

from __future__ import annotations

import re

_AZUREUS = re.compile(rb"-([A-Za-z0-9~]{2})([0-9A-Za-z]{4})-")
_DASHED = re.compile(rb"([A-Z][A-Z0-9]?)-?([0-9]+(?:-[0-9]+){1,3})-")
_NAMES = {
    "A2": "aria2",
    "BC": "BitComet",
    "BI": "BiglyBT",
    "DE": "Deluge",
    "KT": "KTorrent",
    "LT": "libtorrent",
    "PM": "p2pml",
    "TR": "Transmission",
    "UT": "uTorrent",
    "WW": "WebTorrent",
    "lt": "rTorrent",
    "qB": "qBittorrent",
}


def client_name(peer_id: bytes) -> str:
    """`libtorrent 2.1.1.0` for ``-LT2110-…``, `aria2 1.36.0` for ``A2-1-36-0-…``; else empty."""
    if match := _AZUREUS.match(peer_id):
        code, version = match[1].decode(), ".".join(match[2].decode())
    elif match := _DASHED.match(peer_id):
        code, version = match[1].decode(), match[2].decode().replace("-", ".")
    else:
        return ""
    return f"{_NAMES.get(code, code)} {version}"
