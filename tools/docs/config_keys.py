"""docs/config.md: every key of a config, and the presets; docs/config.schema.json, which an editor reads."""

from __future__ import annotations

import json

from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.expected import expected
from lora_backend.config.presets import PRESETS
from lora_backend.config.schema import GROUPS, KEYS, REQUIRED, Key
from lora_backend.i18n import translate
from tools.docs.common import SUFFIXES, row, title, words
from tools.docs.json_schema import json_schema_text

TITLE = words("Keys of a training config", "训练配置的配置项")
MADE = words(
    "Made from the schema by `make docs`; the rules across keys are in [rules]({file}).",
    "由 `make docs` 根据模式生成；跨配置项的规则见[规则]({file})。",
)
IN_AN_EDITOR = words("In an editor", "在编辑器中")
EDITOR = words(
    "VS Code with the YAML extension (redhat.vscode-yaml) completes and checks keys while you write. Put this line at the top of the config, with the path to `docs/config.schema.json` as seen from it:",
    "VS Code 装上 YAML 扩展（redhat.vscode-yaml）后，会在编写时补全并检查各个配置项。把下面这一行放在配置的最前面，其中 `docs/config.schema.json` 的路径相对于该配置文件：",
)
HEAD = (
    words("Key", "配置项"),
    words("Default", "默认值"),
    words("Unit", "单位"),
    words("Takes", "取值"),
    words("What it does", "作用"),
)
IS_REQUIRED = words("required", "必填")
PRESETS_TITLE = words("Presets", "预设")


def pages() -> dict[str, str]:
    """The page in each language, and the JSON Schema."""
    made = {f"config{suffix}.md": keys_page(language) for language, suffix in SUFFIXES.items()}
    return {"config.schema.json": json_schema_text(), **made}


def keys_page(language: str) -> str:
    """A table of every key, group by group; the presets; how an editor uses the JSON Schema."""
    lines = [title(TITLE, "config", language)]
    lines += [MADE[language].format(file=f"rules{SUFFIXES[language]}.md"), ""]
    lines += [f"## {IN_AN_EDITOR[language]}", "", EDITOR[language], ""]
    lines += ["```yaml", "# yaml-language-server: $schema=docs/config.schema.json", "model_name: ./my-model", "```", ""]
    for group, name in GROUPS.items():
        lines += [f"## {translate(name, language)}", "", row(word[language] for word in HEAD), row(["---"] * len(HEAD))]
        lines += [row(_cells(key, language)) for key in KEYS.values() if key.group == group]
        lines.append("")
    lines += [f"## {PRESETS_TITLE[language]}", ""]
    for preset in PRESETS.values():
        lines += [f"### {translate(preset.title, language)}", "", translate(preset.purpose, language), ""]
        lines += ["```yaml", dump_yaml(preset.values).rstrip(), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _cells(key: Key, language: str) -> list[str]:
    return [
        f"`{key.name}`",
        IS_REQUIRED[language] if key.default is REQUIRED else f"`{json.dumps(key.default)}`",
        translate(key.unit, language) if key.unit else "",
        expected(key).text(language),
        translate(key.help, language),
    ]
