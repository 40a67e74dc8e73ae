"""Sentences are stored as template and values, and put into the reader's language at the edge."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from lora_backend.config.check import check_config
from lora_backend.config.validation import refuse_errors
from lora_backend.errors import ConfigError, FlightdeckError
from lora_backend.i18n import (
    LANGUAGES,
    Message,
    Plural,
    current_language,
    language_of,
    languages_in,
    translate,
    use_language,
)
from pages.parts.shell.markdown import sentence

KNOWN = "Change `{key}`."


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("zh", "zh"), ("zh-CN", "zh"), ("zh_TW.UTF-8", "zh"), ("ZH_cn", "zh"), ("en_US.UTF-8", "en"), ("en", "en"), ("de_DE", None), ("C", None), ("C.UTF-8", None),
        ("POSIX", None), ("", None), (None, None),
    ],
)  # fmt: skip
def test_a_locales_name_is_one_of_our_languages_or_none(name: str | None, language: str | None) -> None:
    assert language_of(name) == language


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LC_ALL": "zh_CN.UTF-8"}, "zh"), ({"LC_ALL": "", "LC_MESSAGES": "zh_CN"}, "zh"), ({"LC_ALL": "", "LC_MESSAGES": "", "LANG": "zh_TW"}, "zh"),
        ({"LC_ALL": "C.UTF-8", "LANG": "zh_CN"}, "en"), ({"LC_ALL": "", "LC_MESSAGES": "en_GB", "LANG": "zh_CN"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "", "LANG": "fr_FR"}, "en"),
    ],
)  # fmt: skip
def test_the_locale_decides_until_a_language_is_set(
    environment: dict[str, str], language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert current_language() == language
    with use_language("zh"):
        assert current_language() == "zh"
        with use_language(None):
            assert current_language() == "zh"
        with use_language("en"):
            assert current_language() == "en"
        assert current_language() == "zh"
    assert current_language() == language


def test_a_language_that_was_set_ends_with_its_block_even_by_an_error() -> None:
    before = current_language()
    with pytest.raises(ConfigError), use_language("zh"):
        raise ConfigError("x")
    assert current_language() == before


def test_one_threads_language_is_not_anothers() -> None:
    """A dashboard serves a reader of each language at once."""
    seen: dict[str, list[str]] = {"en": [], "zh": []}
    together = threading.Barrier(2)

    def read(language: str) -> None:
        with use_language(language):
            for _ in range(50):
                together.wait()
                seen[language].append(Message(KNOWN, {"key": "r"}).text())

    threads = [threading.Thread(target=read, args=(language,)) for language in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen["en"]) == {"Change `r`."}
    assert len(set(seen["zh"])) == 1
    assert seen["zh"][0] != seen["en"][0]


def test_a_sentence_without_a_translation_is_said_in_english() -> None:
    assert translate("no such sentence", "zh") == "no such sentence"


@pytest.mark.parametrize(
    "values",
    [
        {"key": "r"}, {"key": 3}, {"key": None}, {"key": 1.5}, {"key": "{key} and {other} and {0} and {"}, {"key": "%s %(x)s"}, {"key": ["a", 1]},
        {"key": Message(KNOWN, {"key": "inner"})}, {"key": [Message(KNOWN, {"key": "one"}), Message(KNOWN, {"key": [Message(KNOWN, {"key": "deep"})]})]},
        {"key": {"a": 1}}, {"key": {"template": 1}}, {"key": "é 😀 \u2028"},
    ],
)  # fmt: skip
def test_a_message_comes_back_from_json_and_says_the_same(values: dict[str, Any]) -> None:
    message = Message(KNOWN, values)
    back = Message.from_json(json.loads(json.dumps(message.to_json())))
    for language in ("en", "zh"):
        assert back.text(language) == message.text(language)


def test_a_message_inside_a_message_is_in_the_same_language() -> None:
    inner = Message(KNOWN, {"key": "r"})
    outer = Message("The config has {count} errors: {errors}", {"count": 2, "errors": [inner, inner]})
    assert outer.text("zh").count(inner.text("zh")) == 2
    assert inner.text("en") not in outer.text("zh")


def test_an_error_is_said_in_the_language_of_whoever_reads_it() -> None:
    error = ConfigError(KNOWN, key="r")
    assert isinstance(error, ValueError)
    assert isinstance(error, FlightdeckError)
    with use_language("en"):
        assert str(error) == "Change `r`."
    with use_language("zh"):
        assert str(error) == error.message.text("zh") != "Change `r`."


def test_a_value_may_be_called_template() -> None:
    assert str(ConfigError("{template}", template="x")) == "x"


IN_THE_BIN = Plural("{count} run is in the trash.", "{count} runs are in the trash.")


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 runs are"), (1, "1 run is"), (2, "2 runs are"), (11, "11 runs are"), ("+1", "+1 run is"), ("1,001", "1,001 runs are"), (1.0, "1.0 runs are"), ("–", "– runs are")],
)  # fmt: skip
def test_a_sentence_goes_by_its_number(count: object, said: str) -> None:
    message = Message(IN_THE_BIN, {"count": count})
    assert message.text("en") == f"{said} in the trash."
    assert str(sentence(message.template, message.values, "en")) == f"{said} in the trash."
    assert message.text("zh") == f"{count} 个任务已在回收站。"
    for back in (
        Message.from_json(json.loads(json.dumps(message.to_json()))),
        pickle.loads(pickle.dumps(message)),
        copy.deepcopy(message),
    ):
        assert (back.text("en"), back.text("zh")) == (message.text("en"), message.text("zh"))


def test_numbers_inside_each_other_have_their_own_forms() -> None:
    layers = Message(Plural("{count} LoRA layer", "{count} LoRA layers"), {"count": 1})
    said = Plural("{count} of {layers} has the expected rank.", "{count} of {layers} have the expected rank.")
    assert Message(said, {"count": 0, "layers": layers}).text("en") == "0 of 1 LoRA layer have the expected rank."
    assert str(sentence(said, {"count": 1, "layers": layers}, "en")) == "1 of 1 LoRA layer has the expected rank."


@pytest.mark.parametrize(
    ("template", "values", "english", "chinese"),
    [
        ("{count} {count:run is|runs are} in the trash.", {"count": 1}, "1 run is in the trash.", "1 个任务已在回收站。"),
        ("{count} {count:run is|runs are} in the trash.", {"count": 2}, "2 runs are in the trash.", "2 个任务已在回收站。"),
        ("{wrong} targeted {wrong:layer has|layers have} no LoRA, first {first}.", {"wrong": 1, "count": 9, "first": "q"}, "1 targeted layer has no LoRA, first q.", "1 个目标层没有 LoRA，首先是 q。"),
        ("{every} {every:step|steps}", {"every": 1}, "1 step", "1 步"),
        ("{right} of {count} LoRA {count:layer|layers} {right:has|have} the expected rank.", {"right": 1, "count": 2}, "1 of 2 LoRA layers has the expected rank.", None),
    ],
)  # fmt: skip
def test_a_stored_template_with_both_words_in_it_is_still_read(
    template: str, values: dict[str, Any], english: str, chinese: str | None
) -> None:
    """As the first runs wrote them."""
    back = Message.from_json({"template": template, "values": values})
    assert back.text("en") == english
    assert back.text("zh") == (chinese or english)
    assert str(sentence(back.template, back.values, "en")) == english


def test_a_stored_plural_of_somebody_else_is_text() -> None:
    for count, said in ((1, "one *1*"), (2, "many *2*")):
        stored = {"template": "one *{count}*", "plural": "many *{count}*", "values": {"count": count}}
        back = Message.from_json(stored)
        assert (back.template, back.text("en")) == ("{text}", said)


def test_one_error_is_not_called_errors() -> None:
    with pytest.raises(ConfigError, match=r"^The config has 1 error: "):
        refuse_errors(check_config({"model_name": "m", "dataset": "d", "r": -1}))


def test_a_folder_with_a_catalogue_is_a_language(tmp_path: Path) -> None:
    for folder in ("pt_BR", "zh_CN", "empty"):
        (tmp_path / folder / "LC_MESSAGES").mkdir(parents=True)
        if folder != "empty":
            (tmp_path / folder / "LC_MESSAGES/messages.po").touch()
    assert languages_in(tmp_path) == {"en": "en", "pt": "pt_BR", "zh": "zh_CN"}
    assert LANGUAGES == {"en": "en", "zh": "zh_CN"}
