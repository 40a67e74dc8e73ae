"""The tables in docs/import.md against the rules: `python -m tests.config.foreign.docs` writes them anew."""

from __future__ import annotations

from pathlib import Path

from lora_backend.config.foreign.table import tables

DOCS = Path(__file__).parents[3] / "docs"
FILES = {"en": DOCS / "import.md", "zh": DOCS / "import.zh-CN.md"}
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->"


def fresh(text: str, language: str) -> str:
    """The page with its tables as the rules are now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{tables(language)}\n{END}{after}"


if __name__ == "__main__":
    for code, file in FILES.items():
        file.write_text(fresh(file.read_text("utf-8"), code), "utf-8")
