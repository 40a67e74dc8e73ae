"""The catalogues and the sentences of the code, by Babel's own commands: `python -m tools.messages --update | --check`.

`pybabel extract` collects what `N_` and `Plural` mark, `pybabel update` brings each catalogue in line. The program compiles
a catalogue in memory, with what `pybabel compile` calls, so no binary file can go stale beside it. (The command itself
would take `{percent} % slower` for a template of the `%` operator.)
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import re
import string
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from babel.messages.catalog import Catalog, Message
from babel.messages.frontend import BaseError, CommandLineInterface
from babel.messages.pofile import read_po

from lora_backend.i18n import LANGUAGES, LOCALE_DIR

ROOT = Path(__file__).parents[1]
CATALOGUES = {
    locale: LOCALE_DIR / locale / "LC_MESSAGES/messages.po" for locale in LANGUAGES.values() if locale != "en"
}
"""Locale → its file; English is the language of the templates."""
KEYWORDS = ("N_", "Plural:1,2")
"""Marks of a sentence, as xgettext writes them; the second has a form for 1 and one for other counts."""

Found = tuple[int, str, str | tuple[str, ...], list[str]]


def marked_sentences(file: BinaryIO, keywords: dict[str, Any], comment_tags: Any, options: Any) -> Iterator[Found]:
    """What is marked in a file, as Babel's extractors give it: line, mark, texts, comments.

    Read from the syntax tree: Babel's own extractor for Python sees no mark inside an f-string before Python 3.12.
    """
    for node in ast.walk(ast.parse(file.read())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in keywords:
            texts = tuple(
                argument.value
                for argument in node.args
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            )
            if len(texts) != len(node.args):
                raise ValueError(f"{file.name}, line {node.lineno}: {node.func.id} takes plain texts")
            yield node.lineno, node.func.id, texts[0] if len(texts) == 1 else texts, []


def pybabel(command: str, *arguments: str | Path) -> int:
    """Run one of Babel's commands in the project's folder. Returns its exit code."""
    with contextlib.chdir(ROOT):  # places are written as paths from here
        try:
            return CommandLineInterface().run(["pybabel", "--quiet", command, *map(str, arguments)]) or 0
        except BaseError:  # the answer of `update --check`
            return 1


def extract(template: Path) -> None:
    """Write every marked sentence into `template`."""
    marks = [f"--keywords={keyword}" for keyword in KEYWORDS]
    pybabel(
        "extract",
        "--mapping-file=tools/messages.cfg",
        "--no-default-keywords",
        *marks,
        "--add-location=file",
        "--sort-output",
        "--no-wrap",
        f"--output-file={template}",
        ".",
    )


def update(locale: str, template: Path, *options: str) -> int:
    """Bring a catalogue in line with `template`; with `--check`, only say by the exit code whether it is."""
    return pybabel(
        "update",
        f"--input-file={template}",
        f"--output-file={CATALOGUES[locale]}",
        f"--locale={locale}",
        "--no-wrap",
        "--no-fuzzy-matching",
        "--ignore-obsolete",
        "--ignore-pot-creation-date",
        *options,
    )


def read_catalogue(locale: str) -> Catalog:
    """A catalogue as it stands."""
    with CATALOGUES[locale].open("rb") as file:
        return read_po(file, locale=locale)


def waiting(catalogue: Catalog) -> list[Message]:
    """Sentences without a translation that somebody looked at."""
    return [message for message in catalogue if message.id and (message.fuzzy or not all(_texts(message.string)))]


def problems() -> list[str]:
    """What keeps the catalogues from saying all that the code says."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder, "messages.pot")
        extract(template)
        for locale in CATALOGUES:
            found += [f"{locale}: {problem}" for problem in _problems_of(read_catalogue(locale))]
            if update(locale, template, "--check"):
                found.append(f"{locale}: not the sentences of the code; run `make messages`, and translate what is new")
    return found


def _problems_of(catalogue: Catalog) -> Iterator[str]:
    missing = {message.id for message in waiting(catalogue)}
    for message in catalogue:
        if not message.id:
            continue
        text = _texts(message.id)[0]
        forms = [fields(form) for form in (*_texts(message.id), *_texts(message.string))]
        if message.id in missing:
            yield f"not translated: {text}"
        elif any(form != forms[0] for form in forms):
            yield f"other values in the translation than {sorted(forms[0])}: {text}"
        if message.pluralizable and "count" not in forms[0]:
            yield f"a Plural goes by the value `count`: {text}"
        if re.search(r"\{\w+:[^{}]*\|", text):
            yield f"two words in one template; make a Plural of it: {text}"


def fields(template: str) -> set[str]:
    """Names of the values in a template."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def _texts(forms: Any) -> tuple[str, ...]:
    return (forms,) if isinstance(forms, str) else tuple(forms)


def main() -> int:
    """Update or check."""
    parser = argparse.ArgumentParser()
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--update", action="store_true")
    mode.add_argument("--check", action="store_true")
    if parser.parse_args().update:
        with tempfile.TemporaryDirectory() as folder:
            template = Path(folder, "messages.pot")
            extract(template)
            for locale in CATALOGUES:
                update(locale, template)
                print(f"{locale}: {len(waiting(read_catalogue(locale)))} sentences wait for a translation")
        return 0
    found = problems()
    print("\n".join(found) or "the catalogues say all that the code says")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
