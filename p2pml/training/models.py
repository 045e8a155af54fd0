"""Models by name, and models from a user's Keras JSON; none of it needs TensorFlow.

`p2pml.formats.keras_json.parse` is the judge of both: what a builder makes passes the same allow-list as what
a stranger sends.
"""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from p2pml.formats import SpecError
from p2pml.formats.keras_json import MAX_TEXT, Limits, ModelSpec, parse
from p2pml.formats.keras_layers import Shape

__all__ = ["BUILDERS", "Limits", "ModelSpec", "SpecError", "build", "load", "parse"]

_Layers = list[tuple[str, dict[str, Any]]]


def _mlp(
    shape: Shape,
    classes: int,
    *,
    hidden: Sequence[int] = (200, 200),
    activation: str = "relu",
    dropout: float = 0.0,
) -> _Layers:
    """Fully connected: the default is the 2NN of McMahan et al., "Communication-Efficient Learning…",
    2017."""
    layers: _Layers = [("Flatten", {})]
    for units in _integers("hidden", hidden):
        layers.append(("Dense", {"units": units, "activation": activation}))
        if dropout:
            layers.append(("Dropout", {"rate": dropout}))
    return [*layers, ("Dense", {"units": classes})]


def _logistic(shape: Shape, classes: int) -> _Layers:
    """Multinomial logistic regression."""
    return [("Flatten", {}), ("Dense", {"units": classes})]


def _cnn(
    shape: Shape,
    classes: int,
    *,
    filters: Sequence[int] = (32, 64),
    kernel: int = 5,
    dense: int = 512,
    activation: str = "relu",
) -> _Layers:
    """Convolutions with 2×2 pooling, then one dense layer: the default is the CNN of McMahan et al., 2017."""
    if len(shape) not in (2, 3):
        raise SpecError(
            f"builder 'cnn' needs images of [rows, columns] or [rows, columns, channels], not {list(shape)}"
        )
    layers: _Layers = [("Reshape", {"target_shape": [*shape, 1]})] if len(shape) == 2 else []
    for count in _integers("filters", filters):
        conv = {
            "filters": count,
            "kernel_size": [kernel, kernel],
            "padding": "same",
            "activation": activation,
        }
        layers += [("Conv2D", conv), ("MaxPooling2D", {"pool_size": [2, 2]})]
    layers.append(("Flatten", {}))
    return [*layers, ("Dense", {"units": dense, "activation": activation}), ("Dense", {"units": classes})]


BUILDERS: Mapping[str, Callable[..., _Layers]] = {
    "mlp": _mlp,
    "logistic": _logistic,
    "softmax": _logistic,
    "cnn": _cnn,
}
"""Name in a job's `model.builder` → its layers for an input shape, a number of classes and the spec's
`args`."""


def build(
    builder: str,
    args: Mapping[str, Any],
    input_shape: Shape,
    classes: int,
    limits: Limits | None = None,
) -> ModelSpec:
    """The model that a named builder makes.

    Args:
        builder: a key of `BUILDERS`.
        args: its arguments: mlp {hidden, activation, dropout}, cnn {filters, kernel, dense, activation}.
        input_shape: one sample.
        classes: how many labels there are.
        limits: how large the model may be.

    Raises:
        SpecError: an unknown builder or argument (with the nearest known one), or a wrong value.
    """
    check_args(builder, args)
    layers: _Layers = [("InputLayer", {"batch_input_shape": [None, *input_shape]})]
    layers += BUILDERS[builder](tuple(input_shape), classes, **args)
    config = {"layers": [{"class_name": kind, "config": options} for kind, options in layers]}
    try:
        text = json.dumps({"class_name": "Sequential", "config": config})
    except (TypeError, ValueError) as error:
        raise SpecError(f"builder {builder!r}: {error}") from error
    try:
        return parse(text, limits)
    except SpecError as error:
        raise SpecError(f"builder {builder!r}: {error}") from error


def check_args(builder: str, args: Mapping[str, Any]) -> None:
    """Check the names alone, for a job spec whose data is not known yet.

    Raises:
        SpecError: an unknown builder or argument.
    """
    if builder not in BUILDERS:
        raise SpecError(f"unknown model builder {builder!r}{_nearest(builder, list(BUILDERS))}")
    parameters = inspect.signature(BUILDERS[builder]).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for key in args:
        if key not in known:
            raise SpecError(f"builder {builder!r} has no argument {key!r}{_nearest(key, known)}")


def load(path: Path, limits: Limits | None = None) -> ModelSpec:
    """A user's own model: a file with the text of `keras.Sequential.to_json()`.

    Raises:
        SpecError: the file is not an accepted model.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as source:
        data = source.read(4 * MAX_TEXT + 1)
    if data[:8] == b"\x89HDF\r\n\x1a\n" or data[:4] == b"PK\x03\x04":
        raise SpecError(
            f"{path.name} is a saved Keras model, which may run code when loaded; "
            "write model.to_json() to a file instead"
        )
    try:
        return parse(data.decode("utf-8"), limits)
    except UnicodeDecodeError as error:
        raise SpecError(f"{path.name} is not UTF-8 text") from error


def _integers(key: str, values: object) -> list[int]:
    if not isinstance(values, list | tuple) or not all(type(value) is int for value in values):
        raise SpecError(f"{key} = {values!r} is not a list of whole numbers")
    return list(values)


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else "; it takes none"
