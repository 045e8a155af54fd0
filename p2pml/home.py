"""A node's home folder, the only place where it keeps state."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from p2pml.errors import ExitCode, UserError

HOME_VERSION = 1
"""Version of the home folder's layout, kept in its `VERSION` file."""


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one node's home folder; building one touches nothing on disk."""

    root: Path

    @classmethod
    def locate(cls, explicit: Path | None = None) -> Home:
        """The home given, else `$P2PML_HOME`, else the platform's folder for user data."""
        if explicit is not None:
            return cls(explicit.expanduser().absolute())
        from_env = os.environ.get("P2PML_HOME")
        if from_env:
            return cls(Path(from_env).expanduser().absolute())
        import platformdirs  # only here: most commands are given a home

        return cls(Path(platformdirs.user_data_dir("p2pml")).absolute())

    @property
    def config_file(self) -> Path:
        return self.root / "config.toml"

    @property
    def version_file(self) -> Path:
        return self.root / "VERSION"

    @property
    def genesis_file(self) -> Path:
        return self.root / "genesis.json"

    @property
    def peers_file(self) -> Path:
        return self.root / "peers.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "lock"

    @property
    def run_dir(self) -> Path:
        return self.root / "run"

    @property
    def api_socket(self) -> Path:
        return self.run_dir / "api.sock"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def node_key(self) -> Path:
        return self.keys / "node.key"

    @property
    def validator_key(self) -> Path:
        return self.keys / "validator.key"

    @property
    def keystore(self) -> Path:
        return self.root / "keystore"

    @property
    def chain_db(self) -> Path:
        return self.root / "chain.sqlite"

    @property
    def pieces(self) -> Path:
        return self.root / "pieces"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def private(self) -> Path:
        return self.root / "private"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def ratings(self) -> Path:
        return self.root / "ratings"

    @property
    def worker_paused(self) -> Path:
        return self.root / "worker.paused"

    @property
    def sponsored(self) -> Path:
        return self.root / "sponsored.journal"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def create(self) -> None:
        """Make the folders of a home, private to its owner, and its `VERSION` file.

        Raises:
            UserError: the folder cannot be made, or a newer version of p2pml made it.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.version_file.exists():
                self._close()
            for folder in (self.keys, self.run_dir, self.logs):
                folder.mkdir(mode=0o700, exist_ok=True)
            os.chmod(self.run_dir, 0o700)
            os.chmod(self.keys, 0o700)
            if not self.version_file.exists():
                self.version_file.write_text(f"{HOME_VERSION}\n", encoding="ascii")
        except OSError as error:
            raise UserError(
                f"the home folder {self.root} cannot be used: {error.strerror or error}",
                "choose another one with --home or P2PML_HOME",
                ExitCode.BAD_CONFIG,
            ) from error
        self.check_version()

    def _close(self) -> None:
        """Close a folder to other users that was there before it became a home: made by hand, or by
        `wallet new`. One that holds anything else is left as it is, and `doctor` tells.
        """
        ours = {"keystore", "keys", "config.toml", "genesis.json"}
        if ours.issuperset(os.listdir(self.root)) and os.stat(self.root).st_uid == os.geteuid():
            os.chmod(self.root, 0o700)

    def check_version(self) -> None:
        """Refuse a home whose layout this version does not know.

        Raises:
            UserError: the `VERSION` file names another layout.
        """
        try:
            text = self.version_file.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return
        if text != str(HOME_VERSION):
            raise UserError(
                f"the home folder {self.root} has layout version {text!r}, this p2pml knows {HOME_VERSION}",
                "use the p2pml that made it, or another --home",
                ExitCode.BAD_CONFIG,
            )
