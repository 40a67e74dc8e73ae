"""docs/rules.md: what the check says, rule by rule, each with the config that breaks it."""

from __future__ import annotations

from lora_backend.config.check import check_config
from lora_backend.config.check_report import SEVERITY_WORDS
from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import with_values
from lora_backend.config.findings import Finding
from lora_backend.config.rules.examples import ACROSS, FILE, KNOWN, Example
from lora_backend.i18n import translate
from tools.docs.common import SUFFIXES, title, words

TITLE = words("What the check says", "检查会说什么")
INTRODUCTION = words(
    "An error keeps a run from starting, a warning runs but is hardly what was wanted, a hint is good to know. Each rule is shown with the smallest config that breaks it; beside it stands `model_name`, which every config needs.",
    "错误会阻止运行启动；警告可以运行，但多半不是想要的；提示则值得了解。每条规则都附有触发它的最小配置；此外还有每份配置都必须有的 `model_name`。",
)
SECTIONS = (
    (words("The file and each key by itself", "文件与单个配置项"), FILE),
    (words("Keys against each other", "配置项之间"), ACROSS),
    (words("Against model, data and machine", "与模型、数据和机器对照"), KNOWN),
)
FIX = words("Fix: {label}.", "修复：{label}。")
OR = words("Or: {labels}.", "或者：{labels}。")


def pages() -> dict[str, str]:
    """The page in each language."""
    return {f"rules{suffix}.md": rules_page(language) for language, suffix in SUFFIXES.items()}


def rules_page(language: str) -> str:
    """Every rule: what breaks it, what the check says then, and what its fix makes of it."""
    lines = [title(TITLE, "rules", language), INTRODUCTION[language], ""]
    for name, examples in SECTIONS:
        lines += [f"## {name[language]}", ""]
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
    lines = [f"### `{code}` ({translate(SEVERITY_WORDS[finding.severity], language)})", ""]
    if broken:
        lines += ["```yaml", broken, "```", ""]
    lines += [finding.message.text(language), "", finding.remedy.text(language), ""]
    labels = [fix.label.text(language) for fix in finding.fixes]
    if labels:
        lines += [FIX[language].format(label=labels[0]), ""]
    if fixed:
        lines += ["```yaml", fixed, "```", ""]
    if labels[1:]:
        lines += [OR[language].format(labels="; ".join(labels[1:])), ""]
    return lines
