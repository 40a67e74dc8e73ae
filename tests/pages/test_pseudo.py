"""A third language is one file: with a made-up one, no word of ours on any page is left in English."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.config.drafts import new_draft
from lora_backend.config.schema import KEYS
from lora_backend.installation import this_installation
from tests.pages.screens import PAGES, finished_run, show
from tests.pseudo import NAMES, foreign, pseudo, pseudo_language

__all__ = ["pseudo_language"]
pytestmark = pytest.mark.usefixtures("workspace")


def test_a_sentence_keeps_what_is_no_language() -> None:
    assert pseudo(
        "Open `{key}` in {count:big} [docs](/docs)"
    ) == "⟦ÖÖpééñ `{key}` ààññ {count:big} [dööçš](/docs)⟧".replace("ààññ", "îîñ")


@pytest.mark.parametrize(
    ("page", "is_full"),
    [*((page, True) for page in PAGES), ("config", False), ("data", False), ("runs", False), ("verify", False)],
)
def test_every_word_on_a_page_comes_from_the_catalogue(
    page: str, is_full: bool, pseudo_language: str, tmp_path: Path
) -> None:
    query: dict[str, str] = {}
    if is_full:
        draft = new_draft(this_installation().drafts, "model_name: m\nr: 'x'\nlearnin_rate: 1\ntarget_batch_size: 7\n")
        run = finished_run(metrics__jsonl='{"step": 1, "loss": 3.0}\n')
        (tmp_path / "train.jsonl").write_text(json.dumps({"prompt": "1", "completion": "2"}))
        query = {
            "config": {"draft": draft.id},
            "runs": {"run": run.id},
            "verify": {"adapter": "runs"},
            "data": {"dataset": "train.jsonl"},
        }.get(page, {})
    at = show(page, lang=pseudo_language, **query)
    left = {text: words for text in words_of(at) if (words := foreign(text, NAMES | OF_THE_TEST))}
    assert left == {}


OF_THE_TEST = frozenset(
    {"m", "r", "x", "prompt", "completion", "path", "share", "runs", "all", "linear", "true", "false"}
)
"""Of configs, data and folders."""


def words_of(at: AppTest) -> list[str]:
    """All that can be read on a page but what its user wrote and chose: options and tables with it."""
    found = []
    for element in at.main:
        names = (
            FIELDS
            if hasattr(element, "options") or element.type.endswith(("input", "area"))
            else (*FIELDS, "value", "body")
        )
        if element.type in ("table", "arrow_data_frame"):
            frame = element.value
            found += [cell for cell in [*frame.columns, *frame.to_numpy().ravel()] if isinstance(cell, str)]
        elif element.type != "code":
            found += [text for name in names if isinstance(text := getattr(element, name, None), str)]
        found += [str(option) for option in getattr(element, "options", ())]
    return [text for text in found if text not in VALUES and "\t" not in text]  # a table to be pasted is data


FIELDS = ("label", "help", "placeholder")
VALUES = frozenset({*KEYS, *(word for key in KEYS.values() for word in re.findall(r"'([\w-]+)'", str(key.annotation)))})
"""Keys of a config, and what they may be, as a config says it."""
