"""The devices that one training is spread over, by TensorFlow's own `tf.distribute`: GPUs where there are
any, else parts of the processor.

Each step's batch is divided among them, and their gradients are added up before the optimizer's step: the
same training, but for the order of sums.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from p2pml.worker.classifier import Classifier
from p2pml.worker.link import UnableError


def strategy_for(count: int) -> Any:
    """A `tf.distribute.MirroredStrategy` over so many devices; None for one. Call it before anything else is
    done with TensorFlow.

    Raises:
        UnableError: there are GPUs, but not so many.
    """
    if count == 1:
        return None
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and len(gpus) < count:
        raise UnableError(f"worker_devices is {count}, and this machine has {len(gpus)} GPUs")
    if gpus:
        return tf.distribute.MirroredStrategy([f"/gpu:{number}" for number in range(count)])
    (processor,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(processor, parts)
    return tf.distribute.MirroredStrategy([f"/cpu:{number}" for number in range(count)])


class MirroredGradients:
    """The gradients of one step over several devices.

    Args:
        classifier: made in the strategy's scope.
        strategy: over the devices.
    """

    def __init__(self, classifier: Classifier, strategy: Any) -> None:
        self._classifier, self._strategy = classifier, strategy

    def __call__(
        self, x: tf.Tensor, y: tf.Tensor, scale: tf.Tensor, picked: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Mean loss over the picked samples, and its gradients."""
        replicas = self._strategy.num_replicas_in_sync
        count = tf.size(picked)

        def one() -> tuple[tf.Tensor, list[tf.Tensor]]:
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            # Each device gets equally many: a batch that does not divide is filled up with samples of no
            # weight, since not every layer takes none at all.
            own = number + replicas * tf.range(-(-count // replicas))
            weight = tf.cast(own < count, tf.float32)
            rows = tf.gather(picked, own % count)
            return self._classifier.gradients(x, y, scale, rows, weight, count)

        loss, gradients = self._strategy.run(one)
        return self._sum(loss), [self._sum(gradient) for gradient in gradients]

    def _sum(self, values: Any) -> tf.Tensor:
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)
