"""An update on its way to the requester's disk: it goes on where it broke off, and is there for good before
anybody hears of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chain.training_records import Commitment
from p2pml.formats.tensors import Shape
from p2pml.net.train import Commit, Update
from p2pml.node import update_check
from p2pml.storage.journal import move_durably


@dataclass(slots=True)
class Upload:
    """One update that was committed to.

    Args:
        commit: the trainer's message.
        commitment: in it.
        path: where the bytes are gathered.
        max_norm: the largest L2 norm that it may have.
        received: how many bytes are here.
        resumed: whether some of them are from a conversation before this one.
    """

    commit: Commit
    commitment: Commitment
    path: Path
    max_norm: float
    received: int = 0
    resumed: bool = False

    def begin(self) -> int:
        """From which byte on the update has to be asked for. Raises OSError."""
        self.received = self.path.stat().st_size if self.path.exists() else 0
        if self.received >= self.commit.size:  # what is there is whole, yet was never accepted: start anew
            self.path.unlink()
            self.received = 0
        self.resumed = self.received > 0
        return self.received

    def follows(self, update: Update) -> bool:
        """Whether these are the bytes that come next."""
        end = update.offset + len(update.data)
        return update.offset == self.received and end <= self.commit.size and bool(update.data)

    def append(self, data: bytes) -> None:
        """The next bytes. Raises OSError."""
        with self.path.open("ab") as file:
            file.write(data)
        self.received += len(data)

    def finish(self, kind: str, shapes: Sequence[Shape]) -> tuple[Path, float]:
        """Check the whole update and have it synced: a receipt for what a power cut takes would be paid for,
        and what it leaves of it aggregated.

        Args:
            kind: of the job's uploads.
            shapes: of the model's weights.

        Returns:
            where it lies now, and its L2 norm.

        Raises:
            BadUpdate: it is refused.
            OSError: the disk's.
        """
        norm = update_check.check(self.path, self.commitment.update_hash, kind, shapes, self.max_norm)
        path = self.path.with_suffix(".update")
        move_durably(self.path, path)
        return path, norm


def part_file(spool: Path, commitment: Commitment, peer: str) -> Path:
    """Where a peer's update is gathered in the folder `spool`. What is there of another one of its for this
    client is given up, or a peer that commits to a new one each time and finishes none would fill the
    disk."""
    name = f"r{commitment.round:05}-c{commitment.client:04}-"
    path = spool / f"{name}{commitment.update_hash.hex()[:16]}-{peer[-12:]}.part"
    for other in spool.glob(f"{name}*-{peer[-12:]}.part"):
        if other != path:
            other.unlink(missing_ok=True)
    return path
