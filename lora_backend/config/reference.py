"""The reference in docs/: every key and every rule in both languages, and the JSON Schema, made from the code.

`python -m lora_backend.config.reference [--check]` writes the files, or says which of them are out of date.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lora_backend.config.check import check_config
from lora_backend.config.check_report import SEVERITY_WORDS
from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import dump_yaml, with_values
from lora_backend.config.expected import expected
from lora_backend.config.findings import Finding
from lora_backend.config.json_schema import json_schema_text
from lora_backend.config.presets import PRESETS
from lora_backend.config.rules.examples import ACROSS, FILE, KNOWN, Example
from lora_backend.config.schema import GROUPS, KEYS, REQUIRED
from lora_backend.i18n import N_, translate

DOCS = Path(__file__).parents[2] / "docs"
SUFFIXES = {"en": "", "zh": ".zh-CN"}
_SECTIONS = ((N_("The file and each key by itself"), FILE), (N_("Keys against each other"), ACROSS), (N_("Against model, data and machine"), KNOWN))  # fmt: skip


def pages() -> dict[str, str]:
    """File name below docs/ → its text."""
    made = {"config.schema.json": json_schema_text()}
    for language, suffix in SUFFIXES.items():
        made[f"config{suffix}.md"] = keys_page(language)
        made[f"rules{suffix}.md"] = rules_page(language)
    return made


def keys_page(language: str) -> str:
    """A table of every key, group by group; the presets; how an editor uses the JSON Schema."""

    def t(template: str) -> str:
        return translate(template, language)

    lines = [_title(t(N_("Keys of a training config")), "config", language)]
    lines += [t(N_("Made from the schema by `python -m lora_backend.config.reference`; the rules across keys are in [rules]({file}).")).format(file=f"rules{SUFFIXES[language]}.md"), ""]  # fmt: skip
    lines += [f"## {t(N_('In an editor'))}", ""]
    lines += [t(N_("VS Code with the YAML extension (redhat.vscode-yaml) completes and checks keys while you write. Put this line at the top of the config, with the path to `docs/config.schema.json` as seen from it:")), ""]  # fmt: skip
    lines += ["```yaml", "# yaml-language-server: $schema=docs/config.schema.json", "model_name: ./my-model", "```", ""]
    head = [t(N_("Key")), t(N_("Default")), t(N_("Unit")), t(N_("Takes")), t(N_("What it does"))]
    for group, title in GROUPS.items():
        lines += [f"## {t(title)}", "", _row(head), _row(["---"] * len(head))]
        for key in KEYS.values():
            if key.group == group:
                default = t(N_("required")) if key.default is REQUIRED else f"`{json.dumps(key.default)}`"
                cells = [
                    f"`{key.name}`",
                    default,
                    t(key.unit) if key.unit else "",
                    expected(key).text(language),
                    t(key.help),
                ]
                lines.append(_row(cells))
        lines.append("")
    lines += [f"## {t(N_('Presets'))}", ""]
    for preset in PRESETS.values():
        lines += [f"### {t(preset.title)}", "", t(preset.purpose), "", "```yaml", dump_yaml(preset.values).rstrip(), "```", ""]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def rules_page(language: str) -> str:
    """Every rule: what breaks it, what the check says then, and what its fix makes of it."""

    def t(template: str) -> str:
        return translate(template, language)

    lines = [_title(t(N_("What the check says")), "rules", language)]
    lines += [t(N_("An error keeps a run from starting, a warning runs but is hardly what was wanted, a hint is good to know. Each rule is shown with the smallest config that breaks it; beside it stands `model_name`, which every config needs.")), ""]  # fmt: skip
    for title, examples in _SECTIONS:
        lines += [f"## {t(title)}", ""]
        if examples is FILE:
            lines += _shown("missing_key", "", check_config({}).findings[0], None, language)
        for example in examples:
            finding, fixed = _finding(example)
            lines += _shown(example.code, example.broken, finding, fixed, language)
    return "\n".join(lines).rstrip() + "\n"


def _finding(example: Example) -> tuple[Finding, str | None]:
    """What the check says of an example, and the example after the fix."""
    text = f"model_name: m\n{example.broken}\n"
    finding = next(f for f in check_config(parse_config(text), example.facts).findings if f.code == example.code)
    fixed = None if finding.fix is None else with_values(text, finding.fix).removeprefix("model_name: m\n").rstrip()
    return finding, fixed


def _shown(code: str, broken: str, finding: Finding, fixed: str | None, language: str) -> list[str]:
    severity = translate(SEVERITY_WORDS[finding.severity], language)
    lines = [f"### `{code}` ({severity})", ""]
    if broken:
        lines += ["```yaml", broken, "```", ""]
    lines += [finding.message.text(language), "", finding.remedy.text(language), ""]
    labels = [fix.label.text(language) for fix in finding.fixes]
    if labels:
        lines += [f"{translate(N_('Fix: {label}'), language).format(label=labels[0])}.", ""]
    if fixed:
        lines += ["```yaml", fixed, "```", ""]
    if labels[1:]:
        lines += [translate(N_("Or: {labels}."), language).format(labels="; ".join(labels[1:])), ""]
    return lines


def _title(title: str, name: str, language: str) -> str:
    other, word = ("zh", "中文") if language == "en" else ("en", "English")
    return f"# {title}\n\n[{word}]({name}{SUFFIXES[other]}.md)\n"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def out_of_date() -> list[str]:
    """Names of files in docs/ that are not what the code says."""
    return [name for name, text in pages().items() if not (DOCS / name).is_file() or (DOCS / name).read_text("utf-8") != text]  # fmt: skip


def main() -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(prog="python -m lora_backend.config.reference")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is out of date")
    stale = out_of_date()
    if parser.parse_args().check:
        print("\n".join(f"out of date: docs/{name}" for name in stale) or "the reference says what the code says")
        return 1 if stale else 0
    texts = pages()
    for name in stale:
        (DOCS / name).write_text(texts[name], "utf-8")
        print(f"docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
