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

from p2pml.formats import SpecError
from p2pml.formats.keras_layers import LAYERS, Fields, Layer, Shape, Weight

MAX_TEXT = 256 << 10
"""The longest model description, in characters."""

MAX_LAYERS = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a model may be.

    Args:
        params: trainable values.
        flops: multiplications and additions of one sample's forward pass.
        activations: values between two layers, for one sample.
    """

    params: int = 50_000_000
    flops: int = 20_000_000_000
    activations: int = 16_000_000


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A checked classifier: a chain of layers from `input_shape` to one value a class.

    Args:
        input_shape: one sample, without the batch dimension.
        layers: in order, without the input layer.
        from_logits: whether the last layer leaves logits rather than probabilities.
    """

    input_shape: Shape
    layers: tuple[Layer, ...]
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

    def to_json(self) -> str:
        """The canonical Keras JSON: equal specs give equal text, and `parse(text)` gives the spec again."""
        layers = [_envelope("InputLayer", {"batch_input_shape": [None, *self.input_shape], "name": "input"})]
        for index, layer in enumerate(self.layers):
            layers.append(
                _envelope(layer.kind, {**layer.options, "name": f"layer_{index}", "dtype": "float32"})
            )
        model = {
            "backend": "tensorflow",
            "class_name": "Sequential",
            "config": {"layers": layers, "name": "model"},
            "keras_version": "2.14.0",
        }
        return json.dumps(model, sort_keys=True, separators=(",", ":"))


def parse(text: str, limits: Limits | None = None) -> ModelSpec:
    """Check a Keras JSON description that anyone may have written.

    Args:
        text: as `keras.Sequential.to_json()` of Keras 2.14 gives it.
        limits: how large the model may be; the default ones when None.

    Raises:
        SpecError: not JSON, not a sequential model of allowed layers, an unknown key or value, or too large.
    """
    if len(text) > MAX_TEXT:
        raise SpecError(f"model description of {len(text)} characters, at most {MAX_TEXT} are allowed")
    try:
        model = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except SpecError:
        raise
    except (ValueError, RecursionError) as error:
        raise SpecError(f"model description is not JSON: {error}") from error
    layers = _unwrap(model)
    shape = _input(layers[0])
    checked: list[Layer] = []
    for index, raw in enumerate(layers[1:], start=1):
        layer = _layer(raw, index, checked[-1].output if checked else shape, first=not checked)
        checked.append(layer)
        _cap(index, layer, limits or Limits())
    spec = ModelSpec(shape, tuple(checked), _from_logits(checked))
    _check_size(spec, limits or Limits())
    return spec


def _unwrap(model: Any) -> list[Any]:
    if not isinstance(model, dict):
        raise SpecError("model description is not a JSON object")
    if model.get("class_name") != "Sequential":
        raise SpecError(
            f"model class {str(model.get('class_name'))[:80]!r} is not accepted, only 'Sequential'"
        )
    extra = set(model) - {"class_name", "config", "keras_version", "backend"}
    if extra:
        raise SpecError(f"model key {sorted(extra)[0]!r} is not accepted")
    if model.get("backend", "tensorflow") != "tensorflow" or not isinstance(
        model.get("keras_version", ""), str
    ):
        raise SpecError("model backend must be 'tensorflow' and keras_version a string")
    config = model.get("config")
    if not isinstance(config, dict) or set(config) - {"name", "layers"}:
        raise SpecError("model config must hold name and layers, and nothing else")
    layers = config.get("layers")
    if not isinstance(layers, list) or not 2 <= len(layers) <= MAX_LAYERS:
        raise SpecError(f"a model needs an input layer and 1 to {MAX_LAYERS - 1} others")
    return layers


def _open(raw: Any, index: int) -> tuple[str, Fields]:
    """The class and the configuration of one layer out of Keras' envelope."""
    if not isinstance(raw, dict) or not isinstance(raw.get("config"), dict):
        raise SpecError(f"layer {index} is not an object with a config")
    kind = raw.get("class_name")
    where = f"layer {index} ({str(kind)[:40]})"
    if not isinstance(kind, str) or (kind != "InputLayer" and kind not in LAYERS):
        raise SpecError(f"{where}: this layer is not accepted; known: {', '.join(sorted(LAYERS))}")
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


def _layer(raw: Any, index: int, shape: Shape, *, first: bool) -> Layer:
    kind, fields = _open(raw, index)
    if kind == "InputLayer":
        raise fields.fail("only the first layer may be an InputLayer")
    if first and isinstance(raw["config"].get("batch_input_shape"), list) and _batch_shape(fields) != shape:
        raise fields.fail("batch_input_shape differs from the input layer's")
    fields.fixed("activity_regularizer", None)
    layer = LAYERS[kind](fields, shape)
    fields.end()
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
