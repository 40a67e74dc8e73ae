"""A config to copy: as a command, as Python; and a diff as Markdown."""

from __future__ import annotations

import pprint
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from lora_backend.config.check_report import DIFF_SIGNS, DIFF_WORDS
from lora_backend.config.config_writing import setting_of
from lora_backend.config.diff import ABSENT, DiffRow, same_value
from lora_backend.config.findings import shorten
from lora_backend.config.schema import default_config
from lora_backend.escaping import markdown_cell, visible
from lora_backend.i18n import N_, translate


def as_command(values: Mapping[str, Any], config: str, base: Mapping[str, Any]) -> str:
    """The shell command that trains with `values`: the file `config`, and `--set` for all that differs from it.

    `base`: what the file `config` holds over the defaults. A key that only `base` has is set to its default.
    """
    defaults = default_config()
    changed = {
        key: value
        for key, value in values.items()
        if not (_has(key, base, defaults) and same_value(value, (defaults | dict(base))[key]))
    }
    for key in base:
        if key not in values and key in defaults and not same_value(base[key], defaults[key]):
            changed[key] = defaults[key]
    parts = [f"python -m lora_backend {start_verb(values)} {shlex.quote(config)}"]
    parts += [f"  --set {shlex.quote(setting_of(key, value))}" for key, value in changed.items()]
    return " \\\n".join(parts) + "\n"


def start_verb(values: Mapping[str, Any]) -> str:
    """The command that trains: in the foreground, or, on several machines, by the one that says what each of them runs."""
    nodes = values.get("num_nodes")
    return "runs start" if isinstance(nodes, int) and nodes > 1 else "train"


def as_python(values: Mapping[str, Any]) -> str:
    """Python that builds the model with its adapter from `values`."""
    config = pprint.pformat(dict(values), sort_dicts=False, width=100)
    return (
        "from lora_backend import check_config_consistency, getEquipAdaptorModel\n\n"
        f"config = {config}\n\n"
        'assert check_config_consistency(config)["is_valid"]\n'
        "model = getEquipAdaptorModel(config)\n"
    )


def diff_markdown(rows: Sequence[DiffRow], base_name: str, language: str | None = None) -> str:
    """The rows as a Markdown table, every value whole."""

    def t(template: str) -> str:
        return translate(template, language)

    lines = [
        f"| {t(N_('Status'))} | {t(N_('Key'))} | {markdown_cell(base_name)} | {t(N_('This config'))} |",
        "|---|---|---|---|",
    ]
    for row in rows:
        base, value = (_code(side) for side in (row.base, row.value))
        lines.append(
            f"| {DIFF_SIGNS[row.status]} {t(DIFF_WORDS[row.status])} | {_code_text(row.key)} | {base} | {value} |"
        )
    return "\n".join(lines) + "\n"


def _has(key: str, base: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    return key in base or key in defaults


def _code(value: Any) -> str:
    return "–" if value is ABSENT else _code_text(shorten(value, 10_000))


def _code_text(text: str) -> str:
    return f"`{_cell(text).replace('`', 'ʼ')}`"


def _cell(text: str) -> str:
    return visible(text).replace("|", "\\|")
