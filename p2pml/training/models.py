"""Models by name, and models from a user's Keras JSON; none of it needs TensorFlow.

`p2pml.formats.keras_json.parse` is the judge of both: what a builder makes passes the same allow-list as what
a stranger sends.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from p2pml.formats import FormatError, SpecError, tensors
from p2pml.formats.keras_fields import Shape
from p2pml.formats.keras_json import MAX_TEXT, Limits, ModelSpec, parse
from p2pml.training.builders import BUILDERS, Builder, Draft

__all__ = ["BUILDERS", "Limits", "ModelSpec", "SpecError", "build", "load", "load_weights", "parse"]


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
        args: its arguments, the fields of that class.
        input_shape: one sample.
        classes: how many labels there are.
        limits: how large the model may be.

    Raises:
        SpecError: an unknown builder or argument (with the nearest known one), or a wrong value.
    """
    draft = Draft(tuple(input_shape), classes)
    check_args(builder, args).draw(draft)
    try:
        return parse(json.dumps(draft.description()), limits)
    except SpecError as error:
        raise SpecError(f"builder {builder!r}: {error}") from error


def check_args(builder: str, args: Mapping[str, Any]) -> Builder:
    """A builder with its arguments; for a job spec, whose data is not known yet, that is all there is to
    check.

    Raises:
        SpecError: an unknown builder or argument, or a value that is out of bounds.
    """
    if builder not in BUILDERS:
        raise SpecError(f"unknown model builder {builder!r}{_nearest(builder, list(BUILDERS))}")
    known = list(BUILDERS[builder].model_fields)
    for key in args:
        if key not in known:
            raise SpecError(f"builder {builder!r} has no argument {key!r}{_nearest(key, known)}")
    try:
        return BUILDERS[builder].model_validate(dict(args))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SpecError(f"builder {builder!r}: args.{where}: {first['msg']}") from error


def load(path: Path, limits: Limits | None = None) -> ModelSpec:
    """A user's own model: a file with the text of a Keras model's `to_json()`.

    Raises:
        SpecError: the file is not an accepted model.
        OSError: the file cannot be read.
    """
    if path.is_dir():
        raise SpecError(_saved(path, "a folder"))
    with open(path, "rb") as source:
        data = source.read(4 * MAX_TEXT + 1)
    for magic, what in _SAVED.items():
        if data.startswith(magic):
            raise SpecError(_saved(path, what))
    try:
        return parse(data.decode("utf-8"), limits)
    except UnicodeDecodeError as error:
        raise SpecError(f"{path.name} is not UTF-8 text") from error


def load_weights(path: Path, model: ModelSpec) -> bytes:
    """First weights from a file, as a job leaves them: safetensors, checked against the model.

    Raises:
        SpecError: the file holds something else.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as source:
        data = source.read(tensors.MAX_BYTES + 1)
    try:
        return tensors.encode(tensors.decode(data, model.weight_shapes))
    except FormatError as error:
        raise SpecError(f"{path.name} has no weights for this model: {error}") from error


_SAVED = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"PK\x03\x04": "a .keras archive",
    b"\x80": "a pickle",
}


def _saved(path: Path, what: str) -> str:
    return (
        f"{path.name} is {what}, not Keras JSON; saved models may run code when loaded: "
        "write model.to_json() to a file instead"
    )


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else "; it takes none"
