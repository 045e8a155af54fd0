"""A node's own keys: who it is to its peers, and who it is on the chain.

Two independent Ed25519 seeds, each in a file that only its owner can read. The node key names the libp2p
peer; the validator key proposes blocks and earns. The VRF seed is derived from the validator seed, so that it
needs no file of its own. Wallets are a different thing: see `p2pml.storage.keystore`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from p2pml.errors import ExitCode, UserError
from p2pml.home import Home

SEED_BYTES = 32
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VRF_TAG = b"p2pml/identity/vrf/1"


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """The seeds of one node; 32 bytes each, never shown by `repr`."""

    node: bytes = field(repr=False)
    validator: bytes = field(repr=False)

    @property
    def vrf(self) -> bytes:
        """The seed of the validator's VRF key (RFC 9381), 32 bytes."""
        return hashlib.sha256(_VRF_TAG + self.validator).digest()

    @classmethod
    def load_or_create(cls, home: Home) -> NodeKeys:
        """The keys of a home, made at the first time.

        Raises:
            UserError: a key file is damaged, readable by others or cannot be written.
        """
        return cls(load_or_create_seed(home.node_key), load_or_create_seed(home.validator_key))

    @classmethod
    def load(cls, home: Home) -> NodeKeys:
        """The keys of a home that has them already.

        Raises:
            UserError: as `load_or_create`, and when a key is missing.
        """
        for path in (home.node_key, home.validator_key):
            if not path.exists():
                raise UserError(
                    f"{home.root} is not a node's home: {path} is missing",
                    f"make it with `p2pml init --home {home.root}`",
                    ExitCode.BAD_CONFIG,
                )
        return cls(_read_seed(home.node_key), _read_seed(home.validator_key))


def peer_id(public: bytes) -> str:
    """The libp2p peer id of a 32-byte Ed25519 public key: base58btc of the identity multihash of its protobuf
    form.

    Source: libp2p specification, "Peer Ids and Keys".
    """
    number = int.from_bytes(b"\x00\x24\x08\x01\x12\x20" + public, "big")
    digits = ""
    while number:
        number, rest = divmod(number, 58)
        digits = _BASE58[rest] + digits
    return "1" + digits  # one leading zero byte


def load_or_create_seed(path: Path) -> bytes:
    """The 32-byte seed kept in `path`; a new random one, mode 0600 and synced to disk, if there is none.

    Two processes that start together agree: the file appears whole or not at all, and the first one wins.

    Raises:
        UserError: the file is damaged, readable by others or cannot be written.
    """
    if not path.exists():
        _create_seed(path)
    return _read_seed(path)


def _create_seed(path: Path) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            os.write(handle, os.urandom(SEED_BYTES).hex().encode("ascii") + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
        try:
            os.link(draft, path)  # unlike rename, never replaces a key that another process just made
        except FileExistsError:
            pass
        finally:
            os.unlink(draft)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise UserError(
            f"the key file {path} cannot be written: {error.strerror or error}",
            "check the folder's owner and free space",
        ) from error


def _read_seed(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
        seed = bytes.fromhex(text)
    except OSError as error:
        raise UserError(
            f"the key file {path} cannot be read: {error.strerror or error}", "check its owner", ExitCode.AUTH
        ) from error
    except ValueError as error:
        raise UserError(
            f"the key file {path} is damaged: it is not hexadecimal text",
            "restore it from a backup, or move it away to get a new identity",
            ExitCode.AUTH,
        ) from error
    if mode & 0o077:
        raise UserError(
            f"the key file {path} can be read by other users (mode {mode & 0o777:o})",
            f"chmod 600 {path}",
            ExitCode.AUTH,
        )
    if len(seed) != SEED_BYTES:
        raise UserError(
            f"the key file {path} is damaged: {len(seed)} bytes instead of {SEED_BYTES}",
            "restore it from a backup, or move it away to get a new identity",
            ExitCode.AUTH,
        )
    return seed
