"""The partition `by_seed`: of public data that the requester does not hold, everybody derives the same parts.

What a participant has to know for it travels with the invitation: how many clients and samples there are, and
how the data is read. The seed is the job's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationError

from p2pml.formats import FormatError, SpecError
from p2pml.formats.shards import Shard
from p2pml.training import dataset
from p2pml.training.partition import Indices, partition
from p2pml.training.spec_values import Readable, Whole


class Division(Readable):
    """How a public data set is divided.

    `clients`: how many parts. `samples`: how many the data has to train on.
    """

    clients: Annotated[Whole, Field(ge=1, le=1024)]
    samples: Annotated[Whole, Field(ge=1, lt=2**40)]

    def to_text(self) -> str:
        """As JSON for the invitation."""
        return self.model_dump_json(exclude_none=True)

    @classmethod
    def from_text(cls, text: str) -> Division:
        """What `to_text` made. Raises SpecError: anything else."""
        try:
            found = cls.model_validate_json(text)
        except ValidationError as error:
            raise SpecError(f"the data's division is not understood: {error.errors()[0]['msg']}") from error
        if found.clients > found.samples:
            raise SpecError(f"the data's division is not understood: {text[:80]}, so clients without samples")
        return found

    def parts(self, seed: int) -> list[Indices]:
        """Each client's rows: equal parts of a permutation, those of `iid`.

        Raises:
            PartitionError: fewer samples than clients.
        """
        return partition("iid", np.zeros(self.samples, np.int64), self.clients, seed)

    def load(self, path: Path) -> Shard:
        """The samples that are divided, those that the data set has for training.

        Raises:
            FormatError: it cannot be read, or has another number of samples.
            OSError: its files cannot be read.
        """
        found = dataset.load(path, self.reading()).train
        if len(found) != self.samples:
            raise FormatError(f"the data has {len(found)} samples to train on, the job says {self.samples}")
        return found
