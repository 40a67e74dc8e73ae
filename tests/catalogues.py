"""The Chinese catalogue against the sentences in the code: `python -m tests.catalogues --update | --check`."""

from __future__ import annotations

import argparse
import ast
import io
import string
import sys
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).parents[1]
PO_FILE = ROOT / "lora_backend/locale/zh_CN/LC_MESSAGES/messages.po"


def sentences() -> Catalog:
    """Every template that the code marks with `N_`, with the files that it stands in."""
    catalog = Catalog(project="LoRA Flightdeck", version="0.1", charset="utf-8")
    for file in sorted([*ROOT.glob("lora_backend/**/*.py"), *ROOT.glob("pages/**/*.py")]):
        # By syntax tree, for Babel's own extraction does not look into f-strings.
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "N_":
                (argument,) = node.args
                assert isinstance(argument, ast.Constant), f"{file}: N_ takes a plain text"
                catalog.add(argument.value, locations=[(str(file.relative_to(ROOT)), 0)])
    return catalog


def update() -> int:
    """Bring the catalogue in line with the code. Returns how many sentences wait for a translation."""
    template = sentences()
    with PO_FILE.open("rb") as file:
        catalog = read_po(file, locale="zh_CN")
    catalog.update(template, no_fuzzy_matching=True)
    out = io.BytesIO()
    write_po(out, catalog, width=0, sort_output=True, ignore_obsolete=True, include_lineno=False, omit_header=False)
    PO_FILE.write_bytes(out.getvalue())
    return sum(1 for message in catalog if message.id and not message.string)


def problems() -> list[str]:
    """What keeps the catalogue from saying all that the code says."""
    with PO_FILE.open("rb") as file:
        catalog = read_po(file, locale="zh_CN")
    known = {message.id: message for message in catalog if message.id}
    wanted = {message.id for message in sentences() if message.id}
    found = [f"not in the catalogue: {text}" for text in sorted(wanted - known.keys())]
    found += [f"in the catalogue, but no longer in the code: {text}" for text in sorted(known.keys() - wanted)]
    for text in sorted(wanted & known.keys()):
        translated = str(known[text].string)
        if not translated:
            found.append(f"not translated: {text}")
        elif fields(text) != fields(translated):
            found.append(f"other values in the translation than {sorted(fields(text))}: {text}")
    return found


def fields(template: str) -> set[str]:
    """Names of the values in a template."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def main() -> int:
    """Update or check."""
    parser = argparse.ArgumentParser()
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--update", action="store_true")
    mode.add_argument("--check", action="store_true")
    if parser.parse_args().update:
        print(f"{update()} sentences wait for a translation in {PO_FILE.relative_to(ROOT)}")
        return 0
    found = problems()
    print("\n".join(found) or "the Chinese catalogue says all that the code says")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
