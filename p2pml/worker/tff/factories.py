"""TensorFlow Federated's aggregation factories over updates that lie on disk. TensorFlow is imported here.

Their bounds come from the job, so they carry nothing from one round to the next: a process that died is
replaced without a trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dp_accounting  # type: ignore[import-untyped]
import numpy as np

from p2pml.formats import tensors
from p2pml.formats.aggregation import Aggregation
from p2pml.formats.tensors import Array, Shape
from p2pml.formats.uploads import Upload
from p2pml.worker import quiet
from p2pml.worker.tff.request import TffRequest, TffResult

quiet.silence()

import tensorflow_federated as tff  # noqa: E402

QUANTIZED_FROM = 1000
"""Tensors of so many values are compressed by rule `compressed`; smaller ones are not worth it."""


class Aggregator:
    """Carries out requests, one at a time; keeps what TFF compiled for the last one."""

    def __init__(self) -> None:
        self._key: object = None
        self._process: Any = None

    def aggregate(self, request: TffRequest) -> TffResult:
        """One update of many, in the request's file.

        Raises:
            FormatError: an update is not of the kind and shapes, or the result is not finite.
            OSError: a file cannot be read or written.
        """
        shapes, count = [tuple(shape) for shape in request.shapes], len(request.updates)
        key = (request.aggregation, tuple(shapes), count)
        if key != self._key:
            self._process, self._key = _process(request.aggregation, shapes, count), key
        deltas = [_load(Upload(path, request.upload, shapes)) for path, _ in request.updates]
        weights = [float(weight) for _, weight in request.updates]
        given = (deltas, weights) if _weighted(request.aggregation) else (deltas,)
        output = self._process.next(self._process.initialize(), *given)
        result = [np.asarray(array, np.float32) for array in output.result]
        tensors.check(result, shapes)
        request.result.write_bytes(tensors.encode(result))
        return TffResult(epsilon(request.aggregation, request.rounds))


def epsilon(aggregation: Aggregation, rounds: int) -> float | None:
    """ε for one client after so many rounds of rule `dp`, at its delta; None for another rule.

    By Rényi accounting of the Gaussian mechanism in every round. That only some clients take part in a round
    is not counted in its favour: everybody can derive who does from the job's seed.
    """
    if aggregation.rule != "dp" or aggregation.noise is None:
        return None
    accountant = dp_accounting.rdp.RdpAccountant()
    accountant.compose(dp_accounting.GaussianDpEvent(aggregation.noise), rounds)
    return float(accountant.get_epsilon(aggregation.delta))


def _weighted(aggregation: Aggregation) -> bool:
    return aggregation.rule != "dp"


def _process(aggregation: Aggregation, shapes: Sequence[Shape], count: int) -> Any:
    value = tff.to_type([(np.float32, shape) for shape in shapes])
    factory = factory_of(aggregation, count)
    if _weighted(aggregation):
        return factory.create(value, tff.to_type(np.float32))
    return factory.create(value)


def factory_of(aggregation: Aggregation, count: int) -> Any:
    """The aggregation factory of `mean` or of a rule of `TFF`, for so many updates a round."""
    aggregators = tff.aggregators
    if aggregation.rule == "dp":
        return aggregators.DifferentiallyPrivateFactory.gaussian_fixed(
            noise_multiplier=aggregation.noise, clients_per_round=float(count), clip=aggregation.clip
        )
    if aggregation.rule == "compressed":
        quantized = aggregators.EncodedSumFactory.quantize_above_threshold(
            quantization_bits=8, threshold=QUANTIZED_FROM
        )
        return aggregators.MeanFactory(value_sum_factory=quantized)
    factory = aggregators.MeanFactory()
    if aggregation.clip is not None:
        factory = aggregators.clipping_factory(aggregation.clip, factory)
    if aggregation.zero is not None:
        factory = aggregators.zeroing_factory(aggregation.zero, factory)
    return factory


def _load(upload: Upload) -> list[Array]:
    """All of an update. One NaN would be the mean, at any weight."""
    arrays = [
        upload.read(index, 0, size).reshape(tuple(shape))
        for index, (size, shape) in enumerate(zip(upload.sizes, upload.shapes, strict=True))
    ]
    tensors.check(arrays)
    return arrays
