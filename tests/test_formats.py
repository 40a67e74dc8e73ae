"""Ranges for people: one unit, no more digits than are known."""

from __future__ import annotations

import math

import pytest

from lora_backend.big_numbers import in_short
from lora_backend.formats import money_range, seconds_range
from lora_backend.i18n import Message, use_language
from pages.parts.shell.markdown import sentence


@pytest.mark.parametrize(
    ("low", "high", "said", "chinese"),
    [
        (1.19, 2.22, "1.2 to 2.2 s", "1.2 到 2.2 秒"),
        (0.0123, 0.5, "0.012 to 0.5 s", "0.012 到 0.5 秒"),
        (42 * 3600 + 1920, 81 * 3600, "43 to 81 h", "43 到 81 小时"),
        (50, 119, "50 to 120 s", "50 到 120 秒"),
        (8.4, 170, "8.4 s to 2.8 min", "8.4 秒到 2.8 分钟"),
        (55, 300, "55 s to 5 min", "55 秒到 5 分钟"),
        (1800, 9000, "30 min to 2.5 h", "30 分钟到 2.5 小时"),
        (72000, 12 * 86400, "20 h to 12 days", "20 小时到 12 天"),
        (900, 6000, "15 to 100 min", "15 到 100 分钟"),
        (9 * 86400, 20 * 86400, "9 to 20 days", "9 到 20 天"),
        (3.01, 3.02, "about 3 s", "约 3 秒"),
        (1e9, 1e9 * 3, "12,000 to 35,000 days", "12,000 到 35,000 天"),
        (1.0, math.inf, "–", "–"),
    ],
)
def test_a_range_of_times_has_two_digits_and_a_unit_that_suits(
    low: float, high: float, said: str, chinese: str
) -> None:
    assert seconds_range(low, high).text("en") == said
    assert seconds_range(low, high).text("zh") == chinese


def test_money_has_its_currency_and_cents_where_it_is_little() -> None:
    assert money_range(1.0, 2.468, "USD").text("en") == "1.00 to 2.50 USD"
    assert money_range(34.2, 1234, "EUR").text("en") == "34 to 1,200 EUR"
    assert money_range(34.2, 34.3, "EUR").text("zh") == "约 34 EUR"


@pytest.mark.parametrize(
    ("value", "english", "chinese", "german"),
    [
        (0, "0", "0", "0"),
        (9_999, "9,999", "9,999", "9,999"),
        (12_345, "12.3K", "1.23 万", "12300"),
        (123_456, "123K", "12.35 万", "123000"),
        (999_960, "1M", "100 万", "1\xa0Mio."),
        (4_608_000, "4.61M", "460.8 万", "4,61\xa0Mio."),
        (134_515_008, "135M", "1.35 亿", "135\xa0Mio."),
        (207_093_760, "207M", "2.07 亿", "207\xa0Mio."),
        (70_553_706_496, "70.6B", "705.5 亿", "70,6\xa0Mrd."),
        (405_853_388_800, "406B", "4059 亿", "406\xa0Mrd."),
        (1.5e12, "1.5T", "1.5 万亿", "1,5\xa0Bio."),
    ],
)
def test_a_big_count_has_the_unit_of_its_language(value: float, english: str, chinese: str, german: str) -> None:
    assert in_short(value, "en") == english
    assert in_short(value, "zh_CN") == chinese
    assert in_short(value, "de") == german


def test_a_sentence_asks_for_a_big_count_and_keeps_the_number() -> None:
    message = Message("`{model}` has {count:big} parameters.", {"model": "m", "count": 70_553_706_496})
    assert message.text("en") == "`m` has 70.6B parameters."
    assert message.text("zh") == "`m` has 705.5 亿 parameters."
    assert str(sentence(message.template, message.values, "zh")) == "`m` has 705.5 亿 parameters."
    with use_language("zh"):
        assert message.text() == message.text("zh")
    assert message.to_json()["values"]["count"] == 70_553_706_496
