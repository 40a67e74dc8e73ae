"""The config of another tool as flat keys with their values and lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode

from lora_backend.config.config_formats import Format
from lora_backend.config.config_text import ConfigDocument


@dataclass(frozen=True)
class Source:
    """What stands in the file, and what the tool takes for what does not."""

    values: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def get(self, key: str) -> Any:
        """The value that the tool would use: the file's, else its own default, else None."""
        value = self.values.get(key)
        return self.defaults.get(key) if value is None else value


def names_in(values: Mapping[str, Any], sections: frozenset[str] = frozenset()) -> set[str]:
    """The names that `flat` gives, without a look at the text."""
    names: set[str] = set()
    for key, value in values.items():
        inside = value if key in sections and isinstance(value, Mapping) else None
        names |= {key} if inside is None else {f"{key}.{inner}" for inner in inside}
    return names


def flat(document: ConfigDocument, sections: frozenset[str] = frozenset()) -> tuple[dict[str, Any], dict[str, int]]:
    """Values and lines by key; the keys of a mapping that is one of `sections` as `section.key`."""
    values: dict[str, Any] = {}
    lines = dict(document.lines)
    nested = _nested_lines(document.text, document.format) if sections else {}
    for key, value in document.values.items():
        if key in sections and isinstance(value, Mapping):
            for inner, item in value.items():
                name = f"{key}.{inner}"
                values[name] = item
                lines[name] = nested.get(name, lines.get(key, 1))
        else:
            values[key] = value
    return values, lines


@lru_cache(maxsize=8)
def _nested_lines(text: str, file_format: Format) -> Mapping[str, int]:
    """Where the keys inside of mappings stand, as `section.key`; nothing where the text is no YAML.

    Kept, for each tool that a file could be of asks, and the reader takes as long as for the whole file.
    """
    yaml = YAML(typ="rt")
    yaml.allow_duplicate_keys = True
    try:
        root = yaml.compose(text.replace("\t", " ") if file_format == "json" else text)
    except YAMLError:
        return {}
    lines: dict[str, int] = {}
    for key_node, value_node in root.value if isinstance(root, MappingNode) else []:
        if isinstance(value_node, MappingNode):
            for inner, _ in value_node.value:
                lines[f"{key_node.value}.{inner.value}"] = inner.start_mark.line + 1
    return lines
