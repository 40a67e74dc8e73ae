"""How axolotl says that rows are written → our form and columns, where both read the same of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLAIN = "{instruction}"
"""axolotl's own prompt, where it is the column's text and nothing else."""
OURS_OF_PLAIN = {"field_instruction": "prompt", "field_output": "completion"}
TURN_KEYS = {"messages": ("role", "content"), "sharegpt": ("from", "value")}


def read_as(entry: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Keys of ours that say how the rows of an entry of `datasets` are read, and the entry's keys that they stand for.

    `alpaca` and its like write a prompt of their own around the rows, `completion` divides long texts: nothing here does.
    """
    kind = entry.get("type")
    if kind in ("chat_template", "sharegpt"):
        return _chat(entry, str(kind))
    if (
        isinstance(kind, Mapping)
        and kind.get("format") == kind.get("no_input_format") == PLAIN
        and not kind.get("system_prompt")
    ):
        columns = {ours: kind.get(theirs, ours) for theirs, ours in OURS_OF_PLAIN.items()}
        if all(isinstance(column, str) for column in columns.values()):
            return _keys("prompt_completion", columns), ("type",)
    return {}, ()


def _chat(entry: Mapping[str, Any], kind: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    usual = "conversations" if kind == "sharegpt" else "messages"
    names = entry.get("message_property_mappings")
    names = names if isinstance(names, Mapping) else {}
    messages = entry.get("field_messages", usual)
    turn_keys = [names.get(part, entry.get(f"message_field_{part}")) for part in ("role", "content")]
    role, content = (
        given or own
        for given, own in zip(turn_keys, TURN_KEYS["sharegpt" if kind == "sharegpt" else "messages"], strict=True)
    )
    if not all(isinstance(name, str) for name in (messages, role, content)) or set(names) - {"role", "content"}:
        return {}, ()
    read = tuple(
        key
        for key in (
            "type",
            "field_messages",
            "message_property_mappings",
            "message_field_role",
            "message_field_content",
        )
        if key in entry
    )
    if (messages, role, content) == ("conversations", "from", "value"):
        return {"data_format": "sharegpt"}, read
    return _keys("messages", {"messages": messages, "role": role, "content": content}), read


def _keys(form: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    """`data_columns` only where a column is not called as its part is."""
    others = {part: column for part, column in columns.items() if part != column}
    return {"data_format": form, **({"data_columns": others} if others else {})}
