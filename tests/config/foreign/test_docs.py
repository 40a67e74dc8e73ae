"""The documentation's tables say what the rules do; that they are fresh, `tests/config/test_reference.py` holds."""

from __future__ import annotations

from lora_backend.config.foreign.tools import TOOLS
from tools.docs.import_tables import tables


def test_every_key_of_every_tool_stands_in_a_table() -> None:
    text = tables("en")
    for tool in TOOLS.values():
        for key, rule in tool.rules.items():
            assert f"`{key}`" in text or (tool.id == "original" and rule.targets == (key,)), key
