"""What an uploaded update must be before it counts: the one that was committed to, of this model, and not
larger than anything that training could give."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from p2pml.formats import FormatError, tensors, uploads
from p2pml.formats.tensors import Shape
from p2pml.net.scores import Deed

NORMS = 100.0


class BadUpdate(FormatError):
    """It is refused.

    Args:
        reason: one line.
        deed: what it proves about its sender; None where an honest one may come to it.
    """

    def __init__(self, reason: str, deed: Deed | None) -> None:
        super().__init__(reason)
        self.deed = deed


def largest_norm(wanted: float | Literal["auto"], weights: bytes) -> float:
    """The largest L2 norm that an update of this model may have.

    `auto`: that of `NORMS` models, at least `NORMS`. No honest round changes a model by more, yet a liar with
    a larger finite update would be the mean.

    Raises:
        FormatError: these are no weights.
    """
    return NORMS * max(1.0, tensors.norm(tensors.decode(weights))) if wanted == "auto" else wanted


def check(path: Path, update_hash: bytes, kind: str, shapes: Sequence[Shape], max_norm: float) -> float:
    """Check a whole update, in memory that does not grow with it.

    Args:
        path: where it lies.
        update_hash: SHA-256 that its sender committed to.
        kind: of the job's uploads.
        shapes: of the model's weights.
        max_norm: see `largest_norm`.

    Returns:
        its L2 norm.

    Raises:
        BadUpdate: it is refused.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    if digest != update_hash:
        raise BadUpdate("its hash is not the one that was committed to", Deed.LIED)
    try:
        norm = uploads.check(path, kind, shapes)
    except FormatError as error:
        raise BadUpdate(str(error), Deed.INVALID) from error
    if norm > max_norm:
        # A learning rate that is too high does this to honest trainers as well.
        raise BadUpdate(f"its norm is {norm:.3g}, at most {max_norm:.3g} is accepted", None)
    return norm
