"""Rows have the tokens that training gives them, counted without torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest
from transformers import AutoTokenizer

from lora_backend import outside
from lora_backend.installation import Installation, this_installation
from lora_backend.preflight import token_counts
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.preflight.token_counts import SAMPLE, row_lengths
from lora_backend.tokens.data_counting import count_rows
from lora_backend.tokens.label_rows import label_rows
from lora_backend.tokens.labels import LabelRules
from tests.resolving import from_here
from tests.tiny import chats, make_model, prompts, write_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return this_installation({"FLIGHTDECK_HOME": str(tmp_path / "home"), "FLIGHTDECK_WORKSPACE": str(tmp_path / "ws")})


@pytest.fixture(autouse=True)
def _nothing_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_counts, "_gave_up", {})


def config_of(model: Path, data: Path, installation: Installation) -> ResolvedConfig:
    return from_here({"model_name": str(model), "dataset": str(data)}, installation)


@pytest.mark.parametrize("rows", [chats, prompts])
def test_rows_have_the_tokens_that_training_gives_them(
    rows: Callable[[int], list[dict[str, object]]], model: Path, installation: Installation, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "data.jsonl", rows(5))
    trained = label_rows(rows(5), AutoTokenizer.from_pretrained(model), LabelRules(10_000))
    found = row_lengths(config_of(model, data, installation))
    assert found is not None
    assert found.tokens == tuple(map(len, trained["input_ids"]))
    assert found.num_rows == len(trained)


def test_what_was_counted_before_is_not_counted_again(
    model: Path, installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(model, write_rows(tmp_path / "data.jsonl", chats(200)), installation)
    (question,) = config.data_questions.values()
    report = count_rows(question, installation)
    monkeypatch.setattr(outside, "call", lambda *_, **__: pytest.fail("counted again"))
    assert config.facts.data_reports
    found = row_lengths(config)
    assert found is not None
    assert found.num_rows == 800
    assert report.counts is not None
    assert fmean(found.tokens) == pytest.approx(report.counts.tokens / 800, rel=0.01)
    assert max(found.tokens) == report.counts.longest


def test_several_sets_count_by_their_shares_of_an_epoch(
    model: Path, installation: Installation, tmp_path: Path
) -> None:
    paths = [write_rows(tmp_path / name, rows) for name, rows in (("a.jsonl", chats(4)), ("b.jsonl", prompts(2)))]
    alone = [row_lengths(config_of(model, path, installation)) for path in paths]
    assert alone[0] is not None
    assert alone[1] is not None
    sets = [{"path": str(paths[0]), "share": 0.5}, {"path": str(paths[1]), "share": 3}]
    found = row_lengths(from_here({"model_name": str(model), "datasets": sets}, installation))
    assert found is not None
    epoch = alone[0].num_rows // 2, alone[1].num_rows * 3
    assert found.num_rows == sum(epoch)
    mean = sum(rows * fmean(one.tokens) for rows, one in zip(epoch, alone, strict=True) if one) / sum(epoch)
    assert fmean(found.tokens) == pytest.approx(mean, rel=0.02)


def test_they_are_counted_once_until_a_file_changes(
    model: Path, installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_rows(tmp_path / "data.jsonl", chats(2))
    first = row_lengths(config_of(model, data, installation))
    with monkeypatch.context() as patched:
        patched.setattr(outside, "call", lambda *_, **__: pytest.fail("counted again"))
        assert row_lengths(config_of(model, data, installation)) == first
    write_rows(data, chats(3))
    again = row_lengths(config_of(model, data, installation))
    assert first is not None
    assert again is not None
    assert again.num_rows == first.num_rows * 3 // 2


def test_of_a_long_file_some_rows_are_drawn_and_all_are_counted(
    model: Path, installation: Installation, tmp_path: Path
) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": "a " * (1 if number < SAMPLE else 50), "completion": "a"} for number in range(2 * SAMPLE)
    ]
    found = row_lengths(config_of(model, write_rows(tmp_path / "data.jsonl", rows), installation))
    assert found is not None
    assert (len(found.tokens), found.num_rows) == (SAMPLE, 2 * SAMPLE)
    assert 0.4 < sum(tokens > 10 for tokens in found.tokens) / SAMPLE < 0.6, "the end of the file is drawn from as well"


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{% for i in range(10**9) %}x{% endfor %}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{% if %}",
    ],
)
def test_a_template_that_cannot_write_them_leaves_them_unknown(
    template: str, installation: Installation, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "model")
    (model / "chat_template.jinja").write_text(template)
    assert row_lengths(config_of(model, write_rows(tmp_path / "data.jsonl", chats(1)), installation)) is None


def test_a_template_without_an_end_is_given_up_once(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tmp_path / "model")
    (model / "chat_template.jinja").write_text(
        "{% for i in range(9999) %}{% for j in range(9999) %}{{ 7 }}{% endfor %}{% endfor %}"
    )
    monkeypatch.setattr(token_counts, "DEADLINE_S", 1.0)
    config = config_of(model, write_rows(tmp_path / "data.jsonl", chats(1)), installation)
    assert row_lengths(config) is None
    monkeypatch.setattr(outside, "call", lambda *_, **__: pytest.fail("tried again at once"))
    assert row_lengths(config) is None


def test_what_is_not_here_is_not_known(model: Path, installation: Installation, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps({"left": "neither"}) + "\n")
    for data in (bad, tmp_path / "none.jsonl", tmp_path):
        assert row_lengths(config_of(model, data, installation)) is None
    without = make_model(tmp_path / "model", tokenizer=False)
    assert row_lengths(config_of(without, write_rows(tmp_path / "data.jsonl", chats(1)), installation)) is None
    assert row_lengths(from_here({"model_name": "Qwen/Qwen3-8B"}, installation)) is None
