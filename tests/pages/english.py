"""English on a page of another language."""

from __future__ import annotations

import re

from streamlit.testing.v1 import AppTest

from lora_backend.config.schema import KEYS

TEXT_FIELDS = ("value", "label", "help", "placeholder", "body")

NAMES = {
    *KEYS, "LoRA Flightdeck", "YAML", "JSON", "TOML", "JSONL", "en", "zh", "all-linear", "train_lora", "A", "B",
}  # fmt: skip

ENGLISH = re.compile(r"\b[A-Za-z]{2,}\b[ ,]+\b[a-z]{2,}\b")
"""Two words in a row, the second one in small letters: a sentence, not a name."""


def texts_of(at: AppTest) -> list[str]:
    found = []
    for element in at.main:
        if element.type in ("code", "text_area", "table", "arrow_data_frame"):
            continue
        found += [
            text for name in TEXT_FIELDS if isinstance(text := getattr(element, name, None), str) and text not in NAMES
        ]
    return found


def without_code(text: str) -> str:
    return re.sub(r"`[^`]*`|<[^>]*>.*</[^>]*>|:material/\w+:", "", text, flags=re.DOTALL)
