"""The tables in docs/import.md: what becomes of every key of another tool, made from the rules."""

from __future__ import annotations

import string

from lora_backend.config.foreign.key_mapping import Rule, Tool
from lora_backend.config.foreign.tools import INSIDE, TOOLS
from lora_backend.config.schema import KEYS
from lora_backend.i18n import translate
from tools.docs.common import DOCS, SUFFIXES, row, words

BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->"
ALL_ARGUMENTS = words("Every key of TrainingArguments (below), and:", "TrainingArguments 的全部配置项（见下），以及：")
ALL_OURS = words("Every key of ours under its own name, and:", "我们的全部配置项（名称不变），以及：")
HEAD = (words("key", "配置项"), words("here", "这里"), words("how", "怎样换"))
NOT_CARRIED = words(
    "Not carried over where they ask for something else than what is done here:",
    "以下的配置项在要求与这里不同时不带过来：",
)


def pages() -> dict[str, str]:
    """The page in each language: its own words, with the tables between the two marks made anew."""
    return {
        name: _fresh((DOCS / name).read_text("utf-8"), language)
        for language, suffix in SUFFIXES.items()
        if (name := f"import{suffix}.md")
    }


def _fresh(text: str, language: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{tables(language)}\n{END}{after}"


def tables(language: str) -> str:
    """One section for each tool, in Markdown: the keys that are carried over, then the others by their reason."""
    return "\n".join(_section(tool, language) for tool in TOOLS.values())


def _section(tool: Tool, language: str) -> str:
    rules = {key: rule for key, rule in tool.rules.items() if not _is_told_elsewhere(tool, key, rule)}
    lines = [f"### {tool.title}", ""]
    if tool.id in INSIDE:
        lines += [ALL_ARGUMENTS[language], ""]
    elif tool.id == "original":
        lines += [ALL_OURS[language], ""]
    lines += [row(word[language] for word in HEAD), "|---|---|---|"]
    places = {key: place for place, key in enumerate(KEYS)}
    for key, rule in sorted(
        rules.items(), key=lambda item: min((places[target] for target in item[1].targets), default=0)
    ):
        if rule.targets:
            targets = ", ".join(f"`{target}`" for target in rule.targets)
            lines.append(f"| `{key}` | {targets} | {_plain(rule.note, language)} |")
    reasons: dict[str, list[str]] = {}
    for key, rule in rules.items():
        if not rule.targets:
            reasons.setdefault(rule.note, []).append(f"`{key}`")
    if reasons:
        lines += ["", NOT_CARRIED[language], ""]
        lines += [f"- {_plain(note, language)} {' '.join(sorted(keys))}" for note, keys in reasons.items()]
    return "\n".join([*lines, ""])


def _is_told_elsewhere(tool: Tool, key: str, rule: Rule) -> bool:
    """Whether a key stands in another table, or needs no words since it is ours."""
    if tool.id == "original":
        return key in KEYS and rule.targets == (key,)
    return tool.id != "training_arguments" and TOOLS["training_arguments"].rules.get(key) is rule


def _plain(note: str, language: str) -> str:
    """A note that speaks of no single value; nothing where it does."""
    has_values = any(name for _, name, _, _ in string.Formatter().parse(note))
    return "" if has_values else translate(note, language)
