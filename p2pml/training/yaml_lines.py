"""YAML read with the line number of every key, so that an error can say where it is.

Only plain data: no tags, no anchors (a few nested aliases can stand for gigabytes), no repeated keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

_PLAIN = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null")
)

Where = tuple[str | int, ...]
"""The way to a value: mapping keys and list indices from the document's root."""


class YamlError(ValueError):
    """The text is not the plain YAML that a job spec is written in; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Located:
    """A document's data and the line (from 1) of each key and list item in it."""

    data: dict[str, Any]
    lines: dict[Where, int] = field(default_factory=dict)

    def line(self, where: Where) -> int:
        """The line of the value at `where`, or of the nearest thing around it."""
        for end in range(len(where), 0, -1):
            if where[:end] in self.lines:
                return self.lines[where[:end]]
        return 1


def load(text: str) -> Located:
    """Parse one YAML document that is a mapping.

    Raises:
        YamlError: not YAML, not a mapping, a repeated or non-text key, an anchor, or a tag of its own.
    """
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        raise YamlError(f"not readable text: {error.reason}", 1) from error
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if getattr(event, "anchor", None) is not None:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise YamlError("anchors and aliases are not allowed", line)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise YamlError("the file must be a mapping of keys to values", 1)
        lines: dict[Where, int] = {}
        data = _value(loader, root, (), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(f"not valid YAML: {error.problem}", (mark.line if mark else 0) + 1) from error
    except RecursionError as error:
        raise YamlError("nested too deeply", 1) from error
    finally:
        loader.dispose()
    return Located(data, lines)


def _value(loader: yaml.SafeLoader, node: yaml.Node, where: Where, lines: dict[Where, int]) -> Any:
    if node.tag not in _PLAIN:
        kind = node.tag.rpartition(":")[2]
        raise YamlError(
            f"a value of the kind {kind!r} is not allowed; put text in quotes", node.start_mark.line + 1
        )
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise YamlError("a key must be text", line)
            if key in result:
                raise YamlError(f"the key {key!r} is there twice", line)
            lines[(*where, key)] = line
            result[key] = _value(loader, value_node, (*where, key), lines)
        return result
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            lines[(*where, index)] = item.start_mark.line + 1
            items.append(_value(loader, item, (*where, index), lines))
        return items
    return loader.construct_object(node)
