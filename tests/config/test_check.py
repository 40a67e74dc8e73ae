"""What is wrong with a config: all of it at once, each with key, line and remedy."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_backend.config.check import check_config
from lora_backend.config.config_text import decode_config, parse_config
from lora_backend.config.config_writing import template
from lora_backend.config.diff import diff_configs, same_value
from lora_backend.config.rules import Facts
from lora_backend.config.schema import KEYS, default_config

GOOD: dict[str, Any] = {"model_name": "m"}


def codes(facts: Facts | None = None, /, **changes: Any) -> list[tuple[str, str | None, str]]:
    return [(f.code, f.key, f.severity) for f in check_config({**GOOD, **changes}, facts).findings]


def test_the_defaults_are_a_good_config() -> None:
    assert codes(**default_config()) == []


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("r", True, "wrong_type"), ("r", "16", "wrong_type"), ("r", 4.5, "wrong_type"), ("r", 0, "out_of_range"), ("r", None, "wrong_type"),
        ("alpha", math.nan, "wrong_type"), ("alpha", -1, "out_of_range"), ("alpha", True, "wrong_type"),
        ("learning_rate", "1e-4", "wrong_type"), ("learning_rate", 3, "out_of_range"),
        ("target_layers", [0, -1], "out_of_range"), ("target_layers", 3, "wrong_type"), ("target_modules", 3, "wrong_type"),
        ("precision", "fp8", "wrong_type"), ("device_map", "everywhere", "wrong_type"), ("device_map", {"a": 1.5}, "wrong_type"),
        ("rank_pattern", {"q": "8"}, "wrong_type"), ("pkg", "../x", "wrong_type"), ("pkg", "..", "wrong_type"), ("seed", -1, "out_of_range"),
        ("use_dora", "yes", "wrong_type"), ("max_length", 1, "out_of_range"), ("val_size", 1.0, "out_of_range"), ("model_name", "", "missing_key"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_an_error_that_names_its_key(key: str, value: Any, code: str) -> None:
    (found,) = [f for f in check_config({**GOOD, key: value}).findings if f.severity == "error"]
    assert found.key == key
    assert found.code == code
    assert f"`{key}`" in found.message.text("en")
    assert found.remedy.text("en")


@pytest.mark.parametrize("key", [key for key in KEYS if key != "model_name"])
def test_no_key_takes_a_value_of_another_kind(key: str) -> None:
    assert any(found[1] == key and found[2] == "error" for found in codes(**{key: object()}))


def test_a_number_as_text_is_told_to_lose_its_quotes() -> None:
    (found,) = check_config({**GOOD, "r": "16"}).findings
    assert "`r: 16`" in found.remedy.text("en")


def test_a_number_in_the_place_of_a_text_is_told_to_take_quotes() -> None:
    (found,) = check_config({**GOOD, "pkg": "a", "version": 1.0}).findings
    assert '`version: "1.0"`' in found.remedy.text("en")


def test_an_unknown_key_is_an_error_with_the_nearest_name() -> None:
    result = check_config(parse_config("model_name: m\nlearnin_rate: 1e-4\n"))
    (found,) = result.findings
    assert (found.code, found.line, result.unknown) == ("unknown_key", 2, ("learnin_rate",))
    assert "learning_rate" in found.remedy.text("en")


def test_the_one_required_key_is_missed() -> None:
    (found,) = check_config({}).findings
    assert (found.code, found.key) == ("missing_key", "model_name")


def test_everything_is_found_at_once_the_worst_first() -> None:
    text = "model_name: m\nr: 'x'\nlr: 1\nr: 4\ntarget_batch_size: 6\ntarget_layers: []\n"
    found = [(f.severity, f.code) for f in check_config(parse_config(text)).findings]
    assert {code for _, code in found} == {
        "wrong_type",
        "unknown_key",
        "duplicate_key",
        "target_batch_size_no_multiple",
        "empty_list",
    }
    assert [severity for severity, _ in found] == sorted(
        (severity for severity, _ in found), key=["error", "warning"].index
    )


def test_a_map_in_the_config_wins_with_a_warning_and_no_error() -> None:
    assert codes(use_balanced_device_map=True, device_map={"": 0}, force_balance=True) == [
        ("device_map_wins", "use_balanced_device_map", "warning")
    ]


def test_what_a_gpu_must_have_free_is_asked_of_each_that_is_chosen_balanced_or_not() -> None:
    for strategy in ("auto", "single"):
        assert codes(min_memory_gb=4, strategy=strategy) == []
    assert codes(min_memory_gb=4, device_map="auto") == [("no_balancing", "min_memory_gb", "warning")]


def test_the_document_is_as_promised() -> None:
    document = check_config({"model_name": "m", "r": 8, "nonsense": 1}).to_dict("en")
    assert document["is_valid"] is False
    assert document["unknown"] == ["nonsense"]
    assert document["differences"]["r"] == {"default": 16, "value": 8}
    assert "r" not in document["missing"]
    assert "alpha" in document["missing"]
    assert document["recommended_config"] == {**default_config(), "model_name": "m", "r": 8}
    assert document["findings"][0].keys() == {"severity", "code", "key", "line", "message", "remedy", "fix", "fixes"}
    assert len(document["issues"]) == 1


def test_equal_numbers_are_equal_and_true_is_not_one() -> None:
    assert same_value(1e-4, 0.0001)
    assert same_value(32, 32.0)
    assert same_value([1, {"a": 2}], [1.0, {"a": 2}])
    assert not same_value(True, 1)
    assert not same_value([True], [1])


def test_a_diff_says_what_happened_to_each_key() -> None:
    rows = diff_configs({"r": 8, "alpha": 32.0, "x": 1, "model_name": "m"}, {"r": 16, "alpha": 32, "seed": 1}, KEYS)
    assert {row.key: row.status for row in rows} == {
        "r": "changed",
        "alpha": "equal",
        "seed": "missing",
        "x": "unknown",
        "model_name": "added",
    }


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(KEYS)) | st.text(max_size=12), anything, max_size=6))
def test_no_config_makes_the_check_raise_and_every_error_names_its_key(values: dict[str, Any]) -> None:
    for finding in check_config(values).findings:
        assert finding.key in values or finding.key in KEYS
        assert finding.message.text("en")
        assert finding.message.text("zh")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["a.yaml", "a.json", "a.toml"]), st.integers(0, 3000))
def test_no_bytes_make_the_reader_raise(noise: bytes, name: str, place: int) -> None:
    text = template().encode()
    for data in (noise, text[:place] + noise + text[place:]):
        check_config(decode_config(data, name)).to_dict("zh")
