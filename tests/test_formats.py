"""Ranges for people: one unit, no more digits than are known."""

from __future__ import annotations

import math

import pytest

from lora_backend.formats import money_range, seconds_range


@pytest.mark.parametrize(
    ("low", "high", "said", "chinese"),
    [
        (1.19, 2.22, "1.2 to 2.2 s", "1.2 到 2.2 秒"),
        (0.0123, 0.5, "0.012 to 0.5 s", "0.012 到 0.5 秒"),
        (42 * 3600 + 1920, 81 * 3600, "43 to 81 h", "43 到 81 小时"),
        (50, 119, "50 to 120 s", "50 到 120 秒"),
        (55, 300, "0.92 to 5 min", "0.92 到 5 分钟"),
        (900, 6000, "15 to 100 min", "15 到 100 分钟"),
        (9 * 86400, 20 * 86400, "9 to 20 days", "9 到 20 天"),
        (3.01, 3.02, "about 3 s", "约 3 秒"),
        (1e9, 1e9 * 3, "12,000 to 35,000 days", "12,000 到 35,000 天"),
        (1.0, math.inf, "–", "–"),
    ],
)
def test_a_range_of_times_is_in_one_unit_with_two_digits(low: float, high: float, said: str, chinese: str) -> None:
    assert seconds_range(low, high).text("en") == said
    assert seconds_range(low, high).text("zh") == chinese


def test_money_has_its_currency_and_cents_where_it_is_little() -> None:
    assert money_range(1.0, 2.468, "USD").text("en") == "1.00 to 2.50 USD"
    assert money_range(34.2, 1234, "EUR").text("en") == "34 to 1,200 EUR"
    assert money_range(34.2, 34.3, "EUR").text("zh") == "约 34 EUR"
