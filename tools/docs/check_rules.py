"""docs/rules.md: what the check says, rule by rule, each with the config that breaks it."""

from __future__ import annotations

import re

from lora_backend.config.check import check_config
from lora_backend.config.check_report import SEVERITY_WORDS
from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import with_values
from lora_backend.config.rules import FACT_RULES, FILE_RULES, KEY_RULES
from lora_backend.config.rules.rule import Rule
from lora_backend.i18n import translate
from tools.docs.common import SUFFIXES, title, words

TITLE = words("What the check says", "检查会说什么")
INTRODUCTION = words(
    "An error keeps a run from starting, a warning runs but is hardly what was wanted, a hint is good to know. Each rule is shown with the smallest config that breaks it; beside it stands `model_name`, which every config needs.",
    "错误会阻止运行启动；警告可以运行，但多半不是想要的；提示则值得了解。每条规则都附有触发它的最小配置；此外还有每份配置都必须有的 `model_name`。",
)
SECTIONS = (
    (words("The file and each key by itself", "文件与单个配置项"), FILE_RULES),
    (words("Keys against each other", "配置项之间"), KEY_RULES),
    (words("Against model, data and machine", "与模型、数据和机器对照"), FACT_RULES),
)
FIX = words("Fix: {label}.", "修复：{label}。")
OR = words("Or: {labels}.", "或者：{labels}。")


def pages() -> dict[str, str]:
    """The page in each language."""
    return {f"rules{suffix}.md": rules_page(language) for language, suffix in SUFFIXES.items()}


def rules_page(language: str) -> str:
    """Every rule: what breaks it, what the check says then, and what its fix makes of it."""
    lines = [title(TITLE, "rules", language), INTRODUCTION[language], ""]
    for name, rules in SECTIONS:
        lines += [f"## {name[language]}", ""]
        for rule in rules:
            lines += _shown(rule, language)
    return "\n".join(lines).rstrip() + "\n"


def _shown(rule: Rule, language: str) -> list[str]:
    text = rule.text(rule.broken)
    result = check_config(parse_config(text), rule.facts)
    finding = next(found for found in result.findings if found.code == rule.code)
    lines = [f"### `{rule.code}` ({translate(SEVERITY_WORDS[finding.severity], language)})", ""]
    if rule.broken:
        lines += ["```yaml", rule.broken, "```", ""]
    lines += [_in_markdown(finding.message.text(language)), "", _in_markdown(finding.remedy.text(language)), ""]
    labels = [fix.label.text(language) for fix in finding.fixes]
    if labels:
        lines += [FIX[language].format(label=labels[0]), ""]
    fixed = None if finding.fix is None else with_values(text, finding.fix).removeprefix("model_name: m\n").rstrip()
    if fixed:
        lines += ["```yaml", fixed, "```", ""]
    if labels[1:]:
        lines += [OR[language].format(labels="; ".join(labels[1:])), ""]
    return lines


def _in_markdown(text: str) -> str:
    """A sentence with code spans, in which `<` begins no tag."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("<", "\\<") for part in parts)
