"""`python -m tools.docs` writes the pages that are made from the code; `--check` only says which are out of date."""

from __future__ import annotations

import argparse
import sys

from tools.docs import check_rules, config_keys, import_tables, resume_table, run_files
from tools.docs.common import DOCS

MAKERS = (config_keys, check_rules, import_tables, resume_table, run_files)


def out_of_date() -> dict[str, str]:
    """Of the pages that are not what the code says: name below docs/ → the text that it should have."""
    made = {name: text for maker in MAKERS for name, text in maker.pages().items()}
    return {
        name: text
        for name, text in made.items()
        if not (DOCS / name).is_file() or (DOCS / name).read_text("utf-8") != text
    }


def main() -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of date")
    only_check, stale = parser.parse_args().check, out_of_date()
    for name, text in stale.items():
        print(f"out of date: docs/{name}" if only_check else f"docs/{name}")
        if not only_check:
            (DOCS / name).parent.mkdir(exist_ok=True)
            (DOCS / name).write_text(text, "utf-8")
    if not stale:
        print("the docs say what the code says")
    return 1 if stale and only_check else 0


if __name__ == "__main__":
    sys.exit(main())
