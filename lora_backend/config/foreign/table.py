"""The documentation's tables of what becomes of every key, made from the rules."""

from __future__ import annotations

import string

from lora_backend.config.foreign.key_mapping import Rule, Tool
from lora_backend.config.foreign.tools import INSIDE, TOOLS
from lora_backend.config.schema import KEYS
from lora_backend.i18n import N_, translate


def tables(language: str = "en") -> str:
    """One section for each tool, in Markdown: the keys that are carried over, then the others by their reason."""
    return "\n".join(_section(tool, language) for tool in TOOLS.values())


def _section(tool: Tool, language: str) -> str:
    rules = {key: rule for key, rule in tool.rules.items() if not _is_told_elsewhere(tool, key, rule)}
    lines = [f"### {tool.title}", ""]
    if tool.id in INSIDE:
        lines += [translate(N_("Every key of TrainingArguments (below), and:"), language), ""]
    elif tool.id == "original":
        lines += [translate(N_("Every key of ours under its own name, and:"), language), ""]
    head = (N_("key"), N_("here"), N_("how"))
    lines += ["| " + " | ".join(translate(word, language) for word in head) + " |", "|---|---|---|"]
    places = {key: place for place, key in enumerate(KEYS)}
    for key, rule in sorted(
        rules.items(), key=lambda row: min((places[target] for target in row[1].targets), default=0)
    ):
        if rule.targets:
            targets = ", ".join(f"`{target}`" for target in rule.targets)
            lines.append(f"| `{key}` | {targets} | {_plain(rule.note, language)} |")
    reasons: dict[str, list[str]] = {}
    for key, rule in rules.items():
        if not rule.targets:
            reasons.setdefault(rule.note, []).append(f"`{key}`")
    if reasons:
        lines += ["", translate(N_("Not carried over where they ask for something else than what is done here:"), language), ""]  # fmt: skip
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
