"""A language that nobody speaks: every English sentence with accents, longer by two fifths, in brackets.

What stands on a page without brackets was never given to a translator; what is cut off has no room for a longer language.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from lora_backend import i18n

CODE = "eo"
"""A code of Babel's, so that plurals and numbers have their rules."""
OPEN, CLOSE = "⟦", "⟧"
ACCENTS = str.maketrans("aeiouyncszgAEIOUYNCSZG", "àéîöûÿñçšžğÀÉÎÖÛŸÑÇŠŽĞ")
KEPT = re.compile(
    r"\{[^{}]*\}|`[^`]*`|:material/\w+:|https?://\S+|\]\([^)]*\)|<[^<>]*>|:\w+\[|\\.|%-?[a-zA-Z%]"
    r"|\b(?:LoRA Flightdeck|Flightdeck)\b"
)
"""Fields, code, marks and addresses, and the product's name."""


def pseudo(sentence: str) -> str:
    """`sentence` as this language says it."""
    said, end = "", 0
    for kept in KEPT.finditer(sentence):
        said += _spoken(sentence[end : kept.start()]) + kept[0]
        end = kept.end()
    return f"{OPEN}{said}{_spoken(sentence[end:])}{CLOSE}"


def _spoken(text: str) -> str:
    accented = text.translate(ACCENTS)
    return re.sub(r"[àéîöûÀÉÎÖÛ]", lambda vowel: vowel[0] * 2, accented)


def write_pseudo(folder: Path) -> Path:
    """Write the catalogue into a folder of catalogues."""
    with (Path(i18n.__file__).with_name("locale") / "zh_CN/LC_MESSAGES/messages.po").open("rb") as file:
        templates = read_po(file)
    catalogue = Catalog(locale=CODE)
    for message in templates:
        if message.id:
            forms = (message.id,) if isinstance(message.id, str) else tuple(message.id)
            spoken = tuple(map(pseudo, forms))
            catalogue.add(message.id, spoken if message.pluralizable else spoken[0], flags=message.flags)
    place = folder / CODE / "LC_MESSAGES/messages.po"
    place.parent.mkdir(parents=True)
    written = io.BytesIO()
    write_po(written, catalogue)
    place.write_bytes(written.getvalue())
    return place


@pytest.fixture
def pseudo_language(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """The language, installed as any other: by its one file."""
    folder = tmp_path_factory.mktemp("locale")
    write_pseudo(folder)
    (folder / "zh_CN").symlink_to(i18n.LOCALE_DIR / "zh_CN")
    monkeypatch.setattr(i18n, "LOCALE_DIR", folder)
    for code, place in i18n.languages_in(folder).items():
        monkeypatch.setitem(i18n.LANGUAGES, code, place)
    return CODE


WORD = re.compile(r"[A-Za-z]{2,}")
NO_WORDS = re.compile(
    r"<script>.*?</script>|`[^`]*`|:material/\w+:|:[a-z-]+\[|<[^<>]*>|https?://\S+|\]\([^)]*\)|\\|\b\d{8}-[0-9a-f-]+|\b[0-9a-f]{8}\b|[\w.~-]*[/_][^\s⟦⟧]*|\b[\w-]+\.(?:jsonl?|ya?ml|safetensors)\b",
    re.DOTALL,
)
"""Scripts, code, marks, addresses, ids of runs, paths and names of files."""
NAMES = frozenset({
    "LoRA", "Flightdeck", "GiB", "MiB", "KiB", "GB", "GPU", "CPU", "MHz", "ms", "YAML", "TOML", "JSON", "JSONL", "CSV", "PNG", "Markdown", "Python",
    "LLaMA", "Factory", "axolotl", "llamafactory", "Unsloth", "unsloth", "TRL", "trl", "Alpaca", "ShareGPT", "Hugging", "Face", "PEFT", "peft", "en", "zh", "eo", "NVIDIA", "AMX", "AVX", "bf", "fp",
})  # fmt: skip
"""Words that are the same in every language: names, units, codes of languages."""


def foreign(text: str, names: frozenset[str] = NAMES) -> list[str]:
    """Words that nobody could have translated: English ones outside of brackets, and two in a row inside of them."""
    plain = NO_WORDS.sub(" ", text)
    inside = re.findall(r"\b[a-z]{2,}\b[ ,]+\b[a-z]{2,}\b", plain)
    outside = plain
    while outside != (outside := re.sub(f"{OPEN}[^{OPEN}{CLOSE}]*{CLOSE}", " ", outside)):
        pass
    return [word for word in [*inside, *WORD.findall(outside)] if word not in names]
