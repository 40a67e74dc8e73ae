"""The documentation's tables say what the rules do."""

from __future__ import annotations

import pytest

from lora_backend.config.foreign.table import tables
from lora_backend.config.foreign.tools import TOOLS
from tests.config.foreign.docs import FILES, fresh


@pytest.mark.parametrize("language", FILES)
def test_the_tables_are_fresh(language: str) -> None:
    """Else run `python -m tests.config.foreign.docs`."""
    text = FILES[language].read_text("utf-8")
    assert text == fresh(text, language)


def test_every_key_of_every_tool_stands_in_a_table() -> None:
    text = tables("en")
    for tool in TOOLS.values():
        for key, rule in tool.rules.items():
            assert f"`{key}`" in text or (tool.id == "original" and rule.targets == (key,)), key
