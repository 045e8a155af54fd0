"""Models as Keras JSON, checked against an allow-list before anything is built from them.

Loading a Keras model is no security boundary: JSON with a `Lambda` or `TFOpLambda` layer, a foreign `module`
or a `registered_name` runs what its author wants, `.h5` and `.keras` files likewise. So only JSON is read, by
this file, and what leaves it is a list of plain values from which the worker constructs each layer itself;
Keras' own deserialisation never runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from p2pml.formats import SpecError, keras_graph
from p2pml.formats.keras_fields import Fields, Layer, Shape, Weight
from p2pml.formats.keras_layers import LAYERS, MERGES

MAX_TEXT = 256 << 10
"""The longest model description, in characters."""

MAX_DEPTH = 16
"""How deep lists and objects may lie in each other; Keras' own descriptions have 8."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a model may be.

    Args:
        params: trainable values.
        flops: multiplications and additions of one sample's forward pass.
        activations: values between two layers, for one sample.
        step: bytes of memory that one training step, or one batch of an evaluation, takes, about.
    """

    params: int = 50_000_000
    flops: int = 20_000_000_000
    activations: int = 16_000_000
    step: int = 4 << 30


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A checked classifier: layers from `input_shape` to one value a class.

    Args:
        input_shape: one sample, without the batch dimension.
        layers: in order, without the input layer.
        sources: for each layer the positions of those whose outputs it takes: 0 is the input, i + 1 is
            `layers[i]`.
        from_logits: whether the last layer leaves logits rather than probabilities.
    """

    input_shape: Shape
    layers: tuple[Layer, ...]
    sources: tuple[tuple[int, ...], ...]
    from_logits: bool

    @property
    def classes(self) -> int:
        """How many classes the model tells apart."""
        return self.layers[-1].output[0]

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Every trainable array in Keras' order, which is the order of weights files."""
        return tuple(weight for layer in self.layers for weight in layer.weights)

    @property
    def weight_shapes(self) -> tuple[Shape, ...]:
        """The shapes that weights and updates of this model have."""
        return tuple(weight.shape for weight in self.weights)

    @property
    def params(self) -> int:
        """How many trainable values."""
        return sum(math.prod(shape) for shape in self.weight_shapes)

    @property
    def flops(self) -> int:
        """Multiplications and additions of one sample's forward pass, about; training costs three times
        that."""
        return sum(layer.flops for layer in self.layers)

    @property
    def random(self) -> bool:
        """Whether training draws random numbers beside the order of the samples."""
        return any(layer.kind == "Dropout" for layer in self.layers)

    @property
    def tokens(self) -> int | None:
        """Samples are tokens, whole numbers below this; None when they are any numbers."""
        size = self.layers[0].options.get("input_dim")
        return None if size is None else int(size)

    def step_bytes(self, batch: int) -> int:
        """Memory of one training step, about: what is kept for the backward pass and its gradients, then
        weights, their gradients and an optimizer's state."""
        kept = math.prod(self.input_shape)
        kept += sum(math.prod(layer.output) + layer.inner for layer in self.layers)
        return 4 * (2 * batch * kept + 5 * self.params)

    def evaluation_batch(self, wanted: int, limits: Limits | None = None) -> int:
        """So many samples, or as many of them as a forward pass has memory for, at least one."""
        widest = max(math.prod(layer.output) + layer.inner for layer in self.layers)
        sample = 4 * 3 * (widest + math.prod(self.input_shape))
        return max(1, min(wanted, (limits or Limits()).step // sample))

    def check_batch(self, batch: int, limits: Limits | None = None) -> None:
        """Refuse a batch size that takes too much memory. Raises SpecError."""
        most = (limits or Limits()).step
        if self.step_bytes(batch) > most:
            raise SpecError(
                f"a step with batch {batch} takes about {self.step_bytes(batch) >> 20} MiB, "
                f"at most {most >> 20} are allowed; use a smaller batch or model"
            )

    def to_json(self) -> str:
        """The canonical Keras JSON: equal specs give equal text, and `parse(text)` gives the spec again."""
        chain = self.sources == tuple((index,) for index in range(len(self.layers)))
        layers = [_envelope("InputLayer", {"batch_input_shape": [None, *self.input_shape], "name": "input"})]
        for index, layer in enumerate(self.layers, start=1):
            options = {**layer.options, "name": keras_graph.layer_name(index), "dtype": "float32"}
            layers.append(_envelope(layer.kind, options))
        config: dict[str, Any] = {"layers": layers, "name": "model"}
        if not chain:
            for index, sources in enumerate(((), *self.sources)):
                layers[index] |= keras_graph.envelope(index, sources)
            config["input_layers"] = [[keras_graph.layer_name(0), 0, 0]]
            config["output_layers"] = [[keras_graph.layer_name(len(self.layers)), 0, 0]]
        model = {
            "backend": "tensorflow",
            "class_name": "Sequential" if chain else "Functional",
            "config": config,
            "keras_version": "2.14.0",
        }
        return json.dumps(model, sort_keys=True, separators=(",", ":"))


def parse(text: str, limits: Limits | None = None) -> ModelSpec:
    """Check a Keras JSON description that anyone may have written.

    Args:
        text: as `to_json()` of a Sequential or Functional model of Keras 2.14 gives it.
        limits: how large the model may be; the default ones when None.

    Raises:
        SpecError: not JSON, not a model of allowed layers, an unknown key or value, or too large.
    """
    if len(text) > MAX_TEXT:
        raise SpecError(f"model description of {len(text)} characters, at most {MAX_TEXT} are allowed")
    try:
        model = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except SpecError:
        raise
    except (ValueError, RecursionError) as error:
        raise SpecError(f"model description is not JSON: {error}") from error
    _check_depth(model)
    nodes = _unwrap(model)
    outputs = [_input(nodes[0].raw)]
    checked: list[Layer] = []
    for index, node in enumerate(nodes[1:], start=1):
        layer = _layer(node.raw, index, [outputs[source] for source in node.sources])
        checked.append(layer)
        outputs.append(layer.output)
        _cap(index, layer, limits or Limits())
    sources = tuple(node.sources for node in nodes[1:])
    spec = ModelSpec(outputs[0], tuple(checked), sources, _from_logits(checked))
    _check_size(spec, limits or Limits())
    return spec


def _check_depth(value: Any) -> None:
    # Level by level, since whatever walks down into a value can run out of stack, repr() in a message too.
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    if level:
        raise SpecError(f"model description is nested over {MAX_DEPTH} deep")


def _unwrap(model: Any) -> list[keras_graph.Node]:
    if not isinstance(model, dict):
        raise SpecError("model description is not a JSON object")
    kind = model.get("class_name")
    if kind not in ("Sequential", "Functional"):
        raise SpecError(f"model class {str(kind)[:80]!r} is not accepted, only 'Sequential' and 'Functional'")
    extra = set(model) - {"class_name", "config", "keras_version", "backend"}
    if extra:
        raise SpecError(f"model key {sorted(extra)[0]!r} is not accepted")
    if model.get("backend", "tensorflow") != "tensorflow" or not isinstance(
        model.get("keras_version", ""), str
    ):
        raise SpecError("model backend must be 'tensorflow' and keras_version a string")
    return keras_graph.nodes(kind, model.get("config"))


def _open(raw: Any, index: int) -> tuple[str, Fields]:
    """The class and the configuration of one layer out of Keras' envelope."""
    if not isinstance(raw, dict) or not isinstance(raw.get("config"), dict):
        raise SpecError(f"layer {index} is not an object with a config")
    kind = raw.get("class_name")
    where = f"layer {index} ({str(kind)[:40]})"
    if not isinstance(kind, str) or (kind != "InputLayer" and kind not in LAYERS and kind not in MERGES):
        known = ", ".join(sorted({*LAYERS, *MERGES}))
        raise SpecError(f"{where}: this layer is not accepted; known: {known}")
    envelope = Fields(
        where, {key: value for key, value in raw.items() if key not in ("class_name", "config")}
    )
    envelope.fixed("module", "keras.layers")
    envelope.fixed("registered_name", None)
    envelope.raw("build_config")  # an echo of the input's shape, never used
    envelope.end()
    fields = Fields(where, raw["config"])
    name = fields.raw("name", "")
    if not isinstance(name, str) or len(name) > 128:
        raise fields.fail("name is not a short string")
    fields.fixed("dtype", "float32")
    fields.fixed("trainable", True)
    return kind, fields


def _input(raw: Any) -> Shape:
    kind, fields = _open(raw, 0)
    if kind != "InputLayer":
        raise fields.fail("the first layer must be an InputLayer")
    fields.fixed("sparse", False)
    fields.fixed("ragged", False)
    shape = _batch_shape(fields)
    fields.end()
    return shape


def _batch_shape(fields: Fields) -> Shape:
    value = fields.raw("batch_input_shape")
    if not isinstance(value, list) or len(value) < 2 or value[0] is not None:
        raise fields.fail(f"batch_input_shape = {str(value)[:80]!r} is not [null, …]")
    return Fields(fields.where, {"batch_input_shape": value[1:]}).dimensions("batch_input_shape")


def _layer(raw: Any, index: int, shapes: list[Shape]) -> Layer:
    kind, fields = _open(raw, index)
    if kind == "InputLayer":
        raise fields.fail("only the first layer may be an InputLayer")
    first = index == 1 and isinstance(raw["config"].get("batch_input_shape"), list)
    if first and _batch_shape(fields) != shapes[0]:
        raise fields.fail("batch_input_shape differs from the input layer's")
    fields.fixed("activity_regularizer", None)
    if kind in MERGES:
        layer = MERGES[kind](fields, shapes)
    elif len(shapes) == 1:
        layer = LAYERS[kind](fields, shapes[0])
    else:
        raise fields.fail(f"takes one input, not {len(shapes)}")
    fields.end()
    if kind == "Embedding" and index != 1:
        raise fields.fail("must be the first layer: what others make of samples cannot be checked as tokens")
    return layer


def _cap(index: int, layer: Layer, limits: Limits) -> None:
    # Checked layer by layer, so that later arithmetic never meets absurd numbers.
    if math.prod(layer.output) > limits.activations:
        raise SpecError(
            f"layer {index} ({layer.kind}) leaves {math.prod(layer.output)} values a sample, "
            f"at most {limits.activations} are allowed"
        )


def _check_size(spec: ModelSpec, limits: Limits) -> None:
    if spec.params > limits.params:
        raise SpecError(f"the model has {spec.params} parameters, at most {limits.params} are allowed")
    if spec.flops > limits.flops:
        raise SpecError(f"a forward pass takes {spec.flops} operations, at most {limits.flops} are allowed")
    if not spec.params:
        raise SpecError("the model has no weights to train")
    if math.prod(spec.input_shape) > limits.activations:
        raise SpecError(f"an input of {math.prod(spec.input_shape)} values is too large")


def _from_logits(layers: list[Layer]) -> bool:
    last = layers[-1]
    if len(last.output) != 1 or last.output[0] < 2:
        raise SpecError(f"the model must end in one value a class (two or more), not {list(last.output)}")
    activation = last.options.get("activation", "linear")
    if activation not in ("linear", "softmax"):
        raise SpecError(f"the last layer's activation is {activation!r}, not 'linear' (logits) or 'softmax'")
    return bool(activation == "linear")


def _envelope(kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"class_name": kind, "config": dict(config), "module": "keras.layers", "registered_name": None}


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise SpecError("model description names a key twice")
    return result


def _no_constant(name: str) -> Any:
    raise SpecError(f"model description holds {name}")
