"""Sentences are stored as template and values, and put into the reader's language at the edge."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from lora_backend.config.check import check_config
from lora_backend.errors import ConfigError, FlightdeckError
from lora_backend.i18n import Message, current_language, language_of, translate, use_language
from lora_backend.preflight.facts import refuse_errors
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


@pytest.mark.parametrize(("count", "said"), [(0, "0 runs are"), (1, "1 run is"), (2, "2 runs are"), (11, "11 runs are"), ("+1", "+1 run is")])  # fmt: skip
def test_a_word_goes_by_its_number(count: object, said: str) -> None:
    template = "{count} {count:run is|runs are} in the bin."
    assert Message(template, {"count": count}).text("en") == f"{said} in the bin."
    assert str(sentence(template, {"count": count}, "en")) == f"{said} in the bin."
    assert Message.from_json(Message(template, {"count": count}).to_json()).text("en") == f"{said} in the bin."


def test_one_error_is_not_called_errors() -> None:
    with pytest.raises(ConfigError, match=r"^The config has 1 error: "):
        refuse_errors(check_config({"model_name": "m", "dataset": "d", "r": -1}))
