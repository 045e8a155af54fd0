"""The models that a job may name: their layers, and their arguments with defaults and bounds.

A published model is the default of its builder, so that a job that names no arguments can be compared with
the literature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from p2pml.formats import SpecError
from p2pml.formats.keras_fields import ACTIVATIONS, MAX_DIMENSION, Shape
from p2pml.formats.keras_graph import envelope, layer_name
from p2pml.training.spec_values import Real, Whole, choice

Width = Annotated[Whole, Field(ge=1, le=MAX_DIMENSION)]
Widths = Annotated[list[Width], Field(min_length=1, max_length=64)]
Activation = Annotated[str, choice(sorted(ACTIVATIONS))]


@dataclass(slots=True)
class Draft:
    """A model that is being put together.

    Args:
        shape: one sample's.
        classes: how many labels there are.
    """

    shape: Shape
    classes: int
    _layers: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.add("InputLayer", batch_input_shape=[None, *self.shape])

    @property
    def last(self) -> int:
        """The number of the layer that was added last."""
        return len(self._layers) - 1

    def add(self, kind: str, *sources: int, **config: Any) -> int:
        """Add a layer that takes the outputs of `sources`, or of the last one; returns its number."""
        index = len(self._layers)
        wiring = envelope(index, sources or ((index - 1,) if index else ()))
        self._layers.append({"class_name": kind, "config": config, **wiring})
        return index

    def add_image(self, builder: str) -> None:
        """See that samples are images with channels. Raises SpecError when they are none."""
        if len(self.shape) not in (2, 3):
            raise SpecError(
                f"builder {builder!r} needs images of [rows, columns] or [rows, columns, channels], "
                f"not {list(self.shape)}"
            )
        if len(self.shape) == 2:
            self.add("Reshape", target_shape=[*self.shape, 1])

    def description(self) -> dict[str, Any]:
        """As Keras JSON."""
        ends = {"input_layers": [["input", 0, 0]], "output_layers": [[layer_name(self.last), 0, 0]]}
        return {"class_name": "Functional", "config": {"layers": self._layers, **ends}}


class Builder(BaseModel):
    """A named model: its fields are the arguments that a spec may give."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def draw(self, draft: Draft) -> None:
        """Add the layers. Raises SpecError when the samples are of a shape that it cannot take."""
        raise NotImplementedError


class Mlp(Builder):
    """Fully connected; the default is the 2NN of McMahan et al., "Communication-Efficient Learning of Deep
    Networks from Decentralized Data", 2017: 199,210 parameters on MNIST."""

    hidden: Widths = [200, 200]
    activation: Activation = "relu"
    dropout: Annotated[Real, Field(ge=0, le=0.95)] = 0.0

    def draw(self, draft: Draft) -> None:
        draft.add("Flatten")
        for units in self.hidden:
            draft.add("Dense", units=units, activation=self.activation)
            if self.dropout:
                draft.add("Dropout", rate=self.dropout)
        draft.add("Dense", units=draft.classes)


class Logistic(Builder):
    """Multinomial logistic regression."""

    def draw(self, draft: Draft) -> None:
        draft.add("Flatten")
        draft.add("Dense", units=draft.classes)


class Sequential(Builder):
    """The Keras Sequential model of TensorFlow Federated's tutorial on image classification: one dense layer
    that starts at zero, softmax; 7,850 parameters on MNIST. The report trains "the Sequential model in Keras"
    with TensorFlow Federated over ten clients, as the tutorial does, and does not list its layers."""

    def draw(self, draft: Draft) -> None:
        draft.add("Flatten")
        draft.add("Dense", units=draft.classes, kernel_initializer="zeros")
        draft.add("Softmax")


class Cnn(Builder):
    """Convolutions with 2×2 pooling, then one dense layer; the default is the CNN of McMahan et al., 2017:
    1,663,370 parameters on MNIST."""

    filters: Widths = [32, 64]
    kernel: Annotated[Whole, Field(ge=1, le=64)] = 5
    dense: Width = 512
    activation: Activation = "relu"

    def draw(self, draft: Draft) -> None:
        draft.add_image("cnn")
        for count in self.filters:
            size = [self.kernel, self.kernel]
            draft.add("Conv2D", filters=count, kernel_size=size, padding="same", activation=self.activation)
            draft.add("MaxPooling2D", pool_size=[2, 2])
        draft.add("Flatten")
        draft.add("Dense", units=self.dense, activation=self.activation)
        draft.add("Dense", units=draft.classes)


class ResNet(Builder):
    """The small residual network that He et al., "Deep Residual Learning for Image Recognition", 2016, train
    on CIFAR-10: three stages of `blocks` blocks, 6 · blocks + 2 layers; the default is ResNet-20 (0.27
    million parameters) with projections where the shape changes.

    Group normalisation (Wu and He, 2018) stands in for batch normalisation, whose statistics of each client's
    own data spoil federated means (Hsieh et al., "The Non-IID Data Quagmire", 2020).
    """

    blocks: Annotated[Whole, Field(ge=1, le=9)] = 3
    filters: Annotated[Whole, Field(ge=1, le=1024)] = 16
    groups: Annotated[Whole, Field(ge=1, le=1024)] = 8

    def draw(self, draft: Draft) -> None:
        draft.add_image("resnet")
        self._conv(draft, draft.last, self.filters, 3, 1)
        draft.add("ReLU")
        for stage in range(3):
            for block in range(self.blocks):
                self._block(draft, self.filters << stage, 2 if stage and not block else 1)
        draft.add("GlobalAveragePooling2D")
        draft.add("Dense", units=draft.classes)

    def _block(self, draft: Draft, filters: int, stride: int) -> None:
        start = draft.last
        self._conv(draft, start, filters, 3, stride)
        draft.add("ReLU")
        branch = self._conv(draft, draft.last, filters, 3, 1)
        shortcut = self._conv(draft, start, filters, 1, stride) if stride > 1 else start
        draft.add("Add", branch, shortcut)
        draft.add("ReLU")

    def _conv(self, draft: Draft, source: int, filters: int, kernel: int, stride: int) -> int:
        draft.add(
            "Conv2D", source, filters=filters, kernel_size=[kernel, kernel], strides=[stride, stride],
            padding="same", use_bias=False, kernel_initializer="he_uniform",
        )  # fmt: skip
        return draft.add("GroupNormalization", groups=self.groups)


class Lstm(Builder):
    """Tokens → embedding → stacked LSTMs → the class of what comes next; the default is the character model
    of Caldas et al., "LEAF: A Benchmark for Federated Settings", 2018, after McMahan et al., 2017, for text
    as bytes."""

    vocabulary: Annotated[Whole, Field(ge=2, le=MAX_DIMENSION)] = 256
    embedding: Width = 8
    units: Widths = [256, 256]

    def draw(self, draft: Draft) -> None:
        draft.add("Embedding", input_dim=self.vocabulary, output_dim=self.embedding)
        for index, units in enumerate(self.units, start=1):
            draft.add("LSTM", units=units, return_sequences=index < len(self.units))
        draft.add("Dense", units=draft.classes)


BUILDERS: Mapping[str, type[Builder]] = {
    "mlp": Mlp,
    "logistic": Logistic,
    "softmax": Logistic,
    "sequential": Sequential,
    "cnn": Cnn,
    "resnet": ResNet,
    "lstm": Lstm,
}
"""Name in a job's `model.builder` → its arguments and layers."""
