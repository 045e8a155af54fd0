"""Wallets on disk: one file per wallet, its seed encrypted under a passphrase.

Key derivation is scrypt (RFC 7914), encryption AES-256-GCM (NIST SP 800-38D) with the account as associated
data, so that a file cannot be passed off as another account's. Only commands open wallets; the daemon never
does.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from chain import address
from chain.crypto import Keypair
from p2pml.errors import ExitCode, UserError

FORMAT_VERSION = 1
SCRYPT_COST = 2**16
"""scrypt's N (with r = 8, p = 1): 64 MiB of memory and about 0.2 s for each guess."""

RESERVED_NAMES = frozenset({"node"})
"""`node` stands for the validator key of the home, which is no wallet."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_MAX_FILE = 16 * 1024
_MAX_COST = 2**20


@dataclass(frozen=True, slots=True)
class Wallet:
    """A wallet as its file shows it without the passphrase: its name and its account (32 bytes)."""

    name: str
    account: bytes

    @property
    def address(self) -> str:
        return address.encode(self.account)


class Keystore:
    """The wallets in one folder.

    Args:
        folder: made when the first wallet is, with mode 0700, as is the folder it lies in, the home.
        cost: scrypt's N for new wallets; `SCRYPT_COST` when None.
    """

    def __init__(self, folder: Path, cost: int | None = None) -> None:
        self._folder = folder
        self._cost = cost or SCRYPT_COST

    def create(self, name: str, passphrase: str, seed: bytes | None = None) -> Wallet:
        """Make a wallet from a seed (32 bytes, default random) and write it whole or not at all.

        Raises:
            UserError: a name that is taken or not allowed, an empty passphrase, a folder that cannot be
                written.
        """
        _check_name(name)
        if not passphrase:
            raise UserError("the passphrase is empty", "give one of at least one character", ExitCode.AUTH)
        path = self._path(name)
        if path.exists():
            raise UserError(f"there is a wallet {name!r} already", "choose another name")
        seed = os.urandom(32) if seed is None else seed
        account = Keypair.from_seed(seed).public
        salt, nonce = os.urandom(16), os.urandom(12)
        secret = AESGCM(_derive(passphrase, salt, self._cost)).encrypt(nonce, seed, account)
        record = {
            "version": FORMAT_VERSION,
            "name": name,
            "address": address.encode(account),
            "kdf": {"name": "scrypt", "n": self._cost, "r": 8, "p": 1, "salt": salt.hex()},
            "cipher": {"name": "aes-256-gcm", "nonce": nonce.hex(), "text": secret.hex()},
        }
        self._write_new(path, json.dumps(record, indent=2).encode() + b"\n")
        return Wallet(name, account)

    def list(self) -> tuple[Wallet, ...]:
        """The wallets, by name.

        Raises:
            UserError: a file in the folder is not a wallet.
        """
        if not self._folder.is_dir():
            return ()
        names = sorted(path.stem for path in self._folder.glob("*.json"))
        return tuple(self.show(name) for name in names)

    def show(self, name: str) -> Wallet:
        """One wallet by its name.

        Raises:
            UserError: there is none, or its file is damaged.
        """
        return Wallet(name, self._account(self._read(name), name))

    def unlock(self, name: str, passphrase: str) -> bytes:
        """The wallet's seed, 32 bytes.

        Raises:
            UserError: (code 4) the passphrase is wrong; (code 1) there is no such wallet or its file is
                damaged.
        """
        record = self._read(name)
        account = self._account(record, name)
        try:
            kdf, cipher = record["kdf"], record["cipher"]
            cost, salt = int(kdf["n"]), bytes.fromhex(kdf["salt"])
            if (kdf["name"], kdf["r"], kdf["p"], cipher["name"]) != ("scrypt", 8, 1, "aes-256-gcm"):
                raise ValueError("unknown key derivation or cipher")
            if not 2 <= cost <= _MAX_COST or cost & (cost - 1):
                raise ValueError("scrypt cost out of range")
            nonce, text = bytes.fromhex(cipher["nonce"]), bytes.fromhex(cipher["text"])
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(self._path(name)) from error
        try:
            seed = AESGCM(_derive(passphrase, salt, cost)).decrypt(nonce, text, account)
        except InvalidTag as error:
            raise UserError(
                f"wrong passphrase for the wallet {name!r}", "try again", ExitCode.AUTH
            ) from error
        if Keypair.from_seed(seed).public != account:
            raise _damaged(self._path(name))
        return seed

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _read(self, name: str) -> dict[str, Any]:
        _check_name(name)
        path = self._path(name)
        try:
            with path.open("rb") as file:
                record = json.loads(file.read(_MAX_FILE + 1))
        except FileNotFoundError as error:
            known = ", ".join(sorted(item.stem for item in self._folder.glob("*.json"))) or "none yet"
            raise UserError(
                f"there is no wallet {name!r}", f"wallets here: {known}; `p2pml wallet new NAME` makes one"
            ) from error
        except (OSError, ValueError) as error:
            raise _damaged(path) from error
        if not isinstance(record, dict) or record.get("version") != FORMAT_VERSION:
            raise _damaged(path)
        return record

    def _account(self, record: dict[str, Any], name: str) -> bytes:
        try:
            return address.decode(record["address"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(self._path(name)) from error

    def _write_new(self, path: Path, content: bytes) -> None:
        draft = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
        try:
            for folder in (self._folder.parent, self._folder):  # to parents the mode would not apply
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                os.write(handle, content)
                os.fsync(handle)
            finally:
                os.close(handle)
            try:
                os.link(draft, path)  # fails where rename would replace another wallet
            finally:
                os.unlink(draft)
        except FileExistsError as error:
            raise UserError(f"there is a wallet {path.stem!r} already", "choose another name") from error
        except OSError as error:
            raise UserError(
                f"the wallet file {path} cannot be written: {error.strerror or error}",
                "check the folder's owner and free space",
            ) from error


def _derive(passphrase: str, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=cost, r=8, p=1).derive(passphrase.encode("utf-8"))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} cannot be a wallet's name",
            "use up to 32 letters, digits, dots, dashes and underscores",
            ExitCode.USAGE,
        )
    if name in RESERVED_NAMES:
        raise UserError(f"the name {name!r} stands for the node's own key", "choose another", ExitCode.USAGE)


def _damaged(path: Path) -> UserError:
    return UserError(f"the wallet file {path} is damaged", "restore it from a backup", ExitCode.AUTH)
