"""The wiring of a model: which layers each layer takes its input from.

A Sequential model is a chain; a Functional one says it by names (`inbound_nodes`). Both become one list in
which every layer comes after those that it takes its input from, so a cycle cannot be written down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from p2pml.formats import SpecError

MAX_LAYERS = 256
MAX_SOURCES = 16
"""Inputs of one merging layer."""


@dataclass(frozen=True, slots=True)
class Node:
    """One layer as it was written, and its place in the model.

    Args:
        raw: Keras' envelope, without what says the wiring.
        sources: positions of the layers whose outputs it takes; none for the first, the input layer.
    """

    raw: Any
    sources: tuple[int, ...]


def nodes(kind: str, config: Any) -> list[Node]:
    """The layers of a `Sequential` or `Functional` model's configuration, the input layer first.

    Raises:
        SpecError: keys or a wiring that are not accepted: more than one input or output, a layer that is used
            twice, or whose output nobody takes.
    """
    keys = {"name", "layers"}
    if kind == "Functional":
        keys |= {"trainable", "input_layers", "output_layers"}
    if not isinstance(config, dict) or set(config) - keys:
        raise SpecError(f"model config must hold {', '.join(sorted(keys))}, and nothing else")
    layers = config.get("layers")
    if not isinstance(layers, list) or not 2 <= len(layers) <= MAX_LAYERS:
        raise SpecError(f"a model needs an input layer and 1 to {MAX_LAYERS - 1} others")
    if kind == "Sequential":
        return [Node(raw, (index - 1,) if index else ()) for index, raw in enumerate(layers)]
    if config.get("trainable", True) is not True:
        raise SpecError("a model that is not trainable is not accepted")
    result = _wired(layers)
    names = [raw["name"] for raw in layers]
    for key, name in (("input_layers", names[0]), ("output_layers", names[-1])):
        if config.get(key) != [[name, 0, 0]]:
            raise SpecError(
                f"{key} must be [[{name!r}, 0, 0]]: one input, which comes first, one output, last"
            )
    return result


def envelope(index: int, sources: tuple[int, ...]) -> dict[str, Any]:
    """How the canonical text of a Functional model says a layer's wiring."""
    inbound = [[[layer_name(source), 0, 0, {}] for source in sources]] if sources else []
    return {"name": layer_name(index), "inbound_nodes": inbound}


def layer_name(index: int) -> str:
    """What the canonical text of a Functional model calls a layer."""
    return f"layer_{index - 1}" if index else "input"


def _wired(layers: list[Any]) -> list[Node]:
    positions: dict[str, int] = {}
    result: list[Node] = []
    for index, raw in enumerate(layers):
        name = raw.get("name") if isinstance(raw, dict) else None
        if not isinstance(name, str) or len(name) > 128 or name in positions:
            raise SpecError(f"layer {index} has no name of its own")
        sources = _sources(f"layer {index}", raw.get("inbound_nodes"), positions) if index else ()
        if not index and raw.get("inbound_nodes", []) != []:
            raise SpecError("layer 0 takes inputs; the input layer must come first")
        inner = {key: value for key, value in raw.items() if key not in ("name", "inbound_nodes")}
        result.append(Node(inner, sources))
        positions[name] = index
    used = {source for node in result for source in node.sources}
    for index in range(len(result) - 1):
        if index not in used:
            raise SpecError(f"layer {index}: nobody takes its output")
    return result


def _sources(where: str, inbound: Any, positions: Mapping[str, int]) -> tuple[int, ...]:
    """The inputs of the one call of a layer: `[[[name, 0, 0, {}], …]]`."""
    calls = inbound if isinstance(inbound, list) else []
    if len(calls) != 1 or not isinstance(calls[0], list) or not 1 <= len(calls[0]) <= MAX_SOURCES:
        raise SpecError(f"{where}: inbound_nodes must be one call with 1 to {MAX_SOURCES} inputs")
    sources = []
    for item in calls[0]:
        name = item[0] if isinstance(item, list) and item else None
        if not isinstance(name, str) or name not in positions:
            raise SpecError(f"{where}: takes its input from {str(name)[:40]!r}, which is no layer before it")
        if item[1:] != [0, 0, {}]:
            raise SpecError(f"{where}: an input must be [name, 0, 0, {{}}]; call arguments are not accepted")
        sources.append(positions[name])
    return tuple(sources)
