"""The global model as it comes from a requester; what has come outlives a conversation that breaks off."""

from __future__ import annotations

from dataclasses import dataclass

from p2pml.formats import tensors
from p2pml.net.errors import Malformed
from p2pml.net.train import NO_MODEL, Model


@dataclass(slots=True)
class ModelDownload:
    """The newest model of one job, whole or in part.

    Attributes:
        weights: the newest whole one, safetensors; empty before.
    """

    weights: bytes = b""
    _digest: bytes = NO_MODEL
    """Of what is coming, else of `weights`."""
    _incoming: bytearray | None = None
    _size: int = 0

    @property
    def held(self) -> tuple[bytes, int]:
        """The digest of the newest model, and how many of its first bytes are here."""
        return self._digest, len(self.weights if self._incoming is None else self._incoming)

    def begin(self, model: Model) -> bool:
        """A model was announced; whether it is here already.

        Raises:
            Malformed: it is to go on from what is not here.
        """
        if model.offset == 0:
            self._incoming = bytearray()
        elif (model.digest, model.offset) != self.held or model.offset > model.size:
            raise Malformed("a model that goes on from what is not here")
        elif self._incoming is None:
            self._incoming = bytearray(self.weights)
        self._digest, self._size = model.digest, model.size
        return self._end()

    def add(self, offset: int, data: bytes) -> bool:
        """The next bytes; whether the model is whole now.

        Raises:
            Malformed: they do not follow, or the whole is not what was announced.
        """
        incoming = self._incoming
        if incoming is None or offset != len(incoming) or offset + len(data) > self._size:
            raise Malformed("a piece of a model that was not announced")
        incoming += data
        return self._end()

    def _end(self) -> bool:
        if self._incoming is None or len(self._incoming) < self._size:
            return False
        weights, self._incoming = bytes(self._incoming), None
        if tensors.digest(weights) != self._digest:
            self.weights, self._digest = b"", NO_MODEL  # or it would be gone on from the next time, too
            raise Malformed("the model is not the one that was announced")
        self.weights = weights
        return True
