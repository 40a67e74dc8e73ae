"""Configs written: values as YAML, changes in a text whose comments and order stay, the commented template."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ruamel.yaml.comments import CommentedMap

from lora_backend.config.config_formats import plain, plain_yaml, yaml_reader
from lora_backend.config.config_text import parse_config
from lora_backend.config.diff import same_value
from lora_backend.config.line_edits import UncutError, edited
from lora_backend.config.patch import DELETE, Patch
from lora_backend.config.schema import GROUPS, KEYS, REQUIRED
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_, translate


def dump_yaml(values: Mapping[str, Any] | list[Any]) -> str:
    """`values` as YAML, in their order."""
    return plain_yaml(values)


def with_values(text: str, changes: Mapping[str, Any]) -> str:
    """YAML `text` with some keys set (or taken out: `DELETE`); the rest stays as written, to the letter where that can be.

    A key that is new takes the line of the one that the changes took out before it, so that a rename stays in its place.
    """
    document = parse_config(text)
    if not document.is_readable:
        raise ConfigError(N_("The text cannot be read, so no key can be set in it. Fix the text first."))
    wanted = Patch(changes).applied_to(document.values)
    with suppress(UncutError, ValueError):
        written = edited(text, document.values, changes)
        after = parse_config(written)
        if not after.problems and same_value(after.values, plain(wanted)):
            return written
    return _written_anew(text, changes)


def _written_anew(text: str, changes: Mapping[str, Any]) -> str:
    """The same by the writer that goes over the whole text: comments and order stay, spaces and the style of lists may not."""
    yaml = yaml_reader()
    loaded = yaml.load(text)
    if not isinstance(loaded, CommentedMap):  # empty, or only comments
        head = text if not text or text.endswith("\n") else f"{text}\n"
        return head + dump_yaml(Patch(changes).sets)
    loaded.fa.set_block_style()  # a nested value has no place in `{a: 1}` on one line
    for key, value in changes.items():
        if value is DELETE:
            loaded.pop(key, None)
        else:
            loaded[key] = value
    out = io.StringIO()
    yaml.dump(loaded, out)
    return out.getvalue()


def setting_of(key: str, value: Any) -> str:
    """`key=value` as `--set` reads it back: a plain text where that is the same, else JSON, which is YAML."""
    is_plain = isinstance(value, str) and parse_config(f"value: {value}").values == {"value": value}
    return f"{key}={value if is_plain else json.dumps(value, ensure_ascii=False)}"


def template(values: Mapping[str, Any] | None = None, language: str | None = None) -> str:
    """The whole config, commented: every key with its help, at the value given or its default."""
    values = values or {}
    parts = []
    for group, title in GROUPS.items():
        parts.append(f"# {translate(title, language)}\n")
        for key in KEYS.values():
            if key.group != group:
                continue
            unit = f" [{translate(key.unit, language)}]" if key.unit else ""
            parts.append(f"# {translate(key.help, language)}{unit}\n")
            value = values.get(key.name, key.default)
            if value is REQUIRED:
                parts.append(f"{key.name}:   # {translate(N_('required'), language)}\n")
            else:
                parts.append(dump_yaml({key.name: value}))
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"
