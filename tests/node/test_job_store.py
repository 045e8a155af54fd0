"""The folder of a job: which of its models counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from p2pml.formats import tensors
from p2pml.node.job_store import JobStore, RoundDone


async def test_a_model_that_the_journal_does_not_know_is_nobodys_result(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "job")
    models = [tensors.encode([np.full(3, number, np.float32)]) for number in range(4)]
    digests = [tensors.digest(model) for model in models]
    assert store.newest_model([]) is None
    for number, model in enumerate(models):
        await store.save_model(number, model, b"")
    rounds = [RoundDone(n, digests[n], digests[n + 1], 0.5, 1.0, 1.0, (), ()) for n in range(2)]
    assert store.newest_model(rounds) == models[2], "model 3 was saved, and then the node was killed"
    rounds.append(RoundDone(2, digests[2], digests[2], 0.5, 1.0, 0.0, (), ()))  # owed, without a model
    assert store.newest_model(rounds) == models[2]
