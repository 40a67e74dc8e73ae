"""The tool that holds the catalogues to the code finds what is missing, left over or translated with other values."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tools import messages


def _marked(source: str) -> list[object]:
    file = io.BytesIO(source.encode())
    file.name = "a.py"
    return [text for _, _, text, _ in messages.marked_sentences(file, {"N_": None, "Plural": (1, 2)}, [], {})]


def test_marks_are_found_inside_f_strings_and_a_plural_has_both_forms() -> None:
    found = _marked("f\"{t(N_('one'))}\"\nx = Plural('{count} row', '{count} rows')\nother('two')")
    assert set(found) == {"one", ("{count} row", "{count} rows")}


def test_a_mark_on_what_is_no_plain_text_is_named() -> None:
    with pytest.raises(ValueError, match=r"a\.py, line 2: N_ takes plain texts"):
        _marked("\nN_(words)")


@pytest.mark.parametrize(
    ("ours", "edited", "problem"),
    [
        ('msgstr "语言"', 'msgstr ""', "not translated: Language"),
        ('msgid "Language"', 'msgid "Languages"', "not the sentences of the code"),
        ('msgid "Language"', '#, fuzzy\nmsgid "Language"', "not translated: Language"),
        ('msgstr[0] "{count} 步"', 'msgstr[0] "{number} 步"', "other values in the translation than ['count']: {count} step"),
    ],
)  # fmt: skip
def test_a_catalogue_that_does_not_say_what_the_code_says_is_told_of(
    ours: str, edited: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = messages.CATALOGUES["zh_CN"].read_text("utf-8")
    assert ours in text
    copy = tmp_path / "messages.po"
    copy.write_text(text.replace(ours, edited), "utf-8")
    monkeypatch.setattr(messages, "CATALOGUES", {"zh_CN": copy})
    assert any(problem in found for found in messages.problems())
    assert copy.read_text("utf-8") == text.replace(ours, edited)
