"""Blame is a type: what a peer or a foreign file causes is a ``RemoteError``, our own mistakes never."""

from __future__ import annotations


class TorrentError(Exception):
    """Root of every error of this package."""


class LocalError(TorrentError):
    """A mistake of this node's own code or user (bad arguments, impossible layout)."""


class RemoteError(TorrentError):
    """Something that came from outside is wrong: a peer's bytes, a foreign .torrent, a foreign archive."""


class BencodeError(RemoteError):
    """Not strict bencoding (BEP 3)."""


class MetainfoError(RemoteError):
    """Bencoded well, yet not a metainfo file that this node accepts."""


class ProtocolError(RemoteError):
    """A peer broke the peer wire protocol."""


class TarError(RemoteError):
    """A tar archive whose headers are damaged or out of bounds."""


class TrackerError(RemoteError):
    """A tracker refuses, or its answer is none."""
