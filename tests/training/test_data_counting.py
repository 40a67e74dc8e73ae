"""What a model learns of a data set is counted as it is trained: all of a small set, a sample of a large one."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora_backend.data.data_question import DataQuestion
from lora_backend.data.data_report import DataReport, TokenCounts
from lora_backend.data.row_report import open_asked
from lora_backend.errors import DataError, ModelError
from lora_backend.installation import Installation, this_installation
from lora_backend.modeling.loss import IGNORED
from lora_backend.tokens import data_counting
from lora_backend.tokens.data_counting import count_rows, labeller_for
from lora_backend.tokens.labels import Labelled
from lora_backend.tokens.row_counts import RowCounts
from lora_backend.tokens.token_census import bar_edges, padded_share
from tests.tiny import ANSWERS, QUESTIONS, STUB, save_tokenizer, stub_model, write_rows

WORDS = sorted({word for text in QUESTIONS + ANSWERS for word in text.split()})


def chat(question: str, answer: str, *more: str) -> dict[str, Any]:
    """A row whose turns are words of the tiny tokenizer."""
    turns = (question, answer, *more)
    return {"messages": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns)]}


def words(count: int, lot: random.Random | None = None) -> str:
    return " ".join((lot or random.Random(count)).choices(WORDS, k=count))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = stub_model(tmp_path_factory.mktemp("model"))
    save_tokenizer(folder)
    return folder


@pytest.fixture
def places(tmp_path: Path) -> Installation:
    return this_installation({"FLIGHTDECK_HOME": str(tmp_path / "home"), "FLIGHTDECK_WORKSPACE": str(tmp_path / "ws")})


def counted(report: DataReport) -> TokenCounts:
    assert report.counts is not None
    return report.counts


def noted(report: DataReport) -> dict[str, list[int]]:
    return {note.code: note.rows for note in report.notes}


def test_tokens_are_those_of_the_rows_as_they_are_trained(model: Path, places: Installation, tmp_path: Path) -> None:
    # <|user|> 3 words </s> <|assistant|> 4 words </s>: 11 tokens, 5 of them learned
    rows = [chat(words(3), words(4)), chat(words(5), words(1)), {"messages": "?"}, chat(words(3), words(4))]
    data = write_rows(tmp_path / "d.jsonl", rows)
    report = count_rows(DataQuestion(str(data), model=str(model), batch_size=2), places)
    counts = counted(report)
    assert (report.form, report.rows, report.num_bad_rows, report.duplicates) == ("messages", 3, 1, 1)
    assert (counts.rows, counts.is_estimate, counts.longest) == (3, False, 11)
    assert (counts.tokens, counts.trained_tokens) == (11 + 10 + 11, 5 + 2 + 5)
    assert counts.cut == counts.without_end == counts.behind_cut == 0
    assert report.bad_rows[0].line == 3
    assert noted(report) == {"duplicate": [4]}
    assert sum(counts.lengths) == 3
    assert counts.edges[-1] == 11


def test_rows_that_the_cut_takes_something_from_are_counted_and_named_by_their_row(
    model: Path, places: Installation, tmp_path: Path
) -> None:
    rows = [chat(words(3), words(20)), {"nothing": 1}, chat(words(3), words(2)), chat(words(30), words(2))]
    data = write_rows(tmp_path / "d.jsonl", rows)
    question = DataQuestion(str(data), model=str(model), max_length=16)
    report = count_rows(question, places)
    assert noted(report) == {"cut": [1, 4], "without_end": [1], "behind_cut": [4]}
    counts = counted(report)
    assert (counts.cut, counts.without_end, counts.behind_cut) == (2, 1, 1)
    assert counts.tokens == 16 + 9, "a row of which nothing is trained on is no part of an epoch"
    assert 16 in counts.edges
    dropped = count_rows(replace(question, truncation="drop"), places)
    assert (counted(dropped).tokens, counted(dropped).trained_tokens) == (9, 3)
    assert noted(dropped)["cut"] == [1, 4]


def test_a_row_that_the_template_refuses_is_named_with_the_reason(
    model: Path, places: Installation, tmp_path: Path
) -> None:
    folder = stub_model(tmp_path / "strict")
    save_tokenizer(folder)
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system turn') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(template + (model / "chat_template.jinja").read_text())
    system: dict[str, object] = {"messages": [{"role": "system", "content": "x"}, *chat("how", "tall")["messages"]]}
    data = write_rows(tmp_path / "d.jsonl", [chat("how", "tall"), system])
    report = count_rows(DataQuestion(str(data), model=str(folder)), places)
    (note,) = report.notes_of("refused")
    assert note.rows == [2]
    assert note.message is not None
    assert "No system turn" in note.message.text("en")
    assert counted(report).trained_tokens == 2


def test_a_large_set_is_estimated_from_a_sample_that_is_always_the_same(
    model: Path, places: Installation, tmp_path: Path
) -> None:
    lot = random.Random(0)
    rows = [chat(words(lot.randint(1, 40), lot), words(lot.randint(1, 80), lot)) for _ in range(2000)]
    question = DataQuestion(str(write_rows(tmp_path / "d.jsonl", rows)), model=str(model), max_length=64)
    exact = counted(count_rows(question, places))
    sampled = [count_rows(replace(question, seed=0), replace(places, cache=tmp_path / f"c{n}"), most=500) for n in (1, 2)]  # fmt: skip
    assert sampled[0] == sampled[1]
    estimate = counted(sampled[0])
    assert (exact.rows, exact.is_estimate, estimate.rows, estimate.is_estimate) == (2000, False, 500, True)
    for name in ("tokens", "trained_tokens", "cut", "without_end"):
        assert getattr(estimate, name) == pytest.approx(getattr(exact, name), rel=0.15), name
    assert estimate.padded_share == pytest.approx(exact.padded_share, abs=0.05)
    assert sum(estimate.lengths) == pytest.approx(2000, abs=30)
    assert sampled[0].duplicates == count_rows(question, places).duplicates, "rows are compared with all others"


def test_held_back_rows_are_no_part_of_an_epoch_and_leaks_are_named(
    model: Path, places: Installation, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "d.jsonl", [chat(words(3), words(4))] * 10)
    report = count_rows(DataQuestion(str(data), model=str(model), val_size=0.2), places)
    assert counted(report).tokens == 8 * 11
    assert len(noted(report)["in_both_splits"]) == 2


def test_the_same_is_counted_once(
    model: Path, places: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = DataQuestion(str(write_rows(tmp_path / "d.jsonl", [chat("how", "tall")])), model=str(model))
    first = count_rows(question, places)
    monkeypatch.setattr(data_counting, "load_tokenizer", lambda _: pytest.fail("counted again"))
    assert count_rows(question, places) == first
    with pytest.raises(pytest.fail.Exception):
        count_rows(replace(question, max_length=8), places)


def test_progress_rises_to_the_end(model: Path, places: Installation, tmp_path: Path) -> None:
    question = DataQuestion(str(write_rows(tmp_path / "d.jsonl", [chat("how", "tall")] * 600)), model=str(model))
    seen: list[float] = []
    count_rows(question, places, lambda _, share: seen.append(share))
    assert seen == sorted(seen)
    assert seen[-1] > 0.3


def test_without_a_model_rows_alone_are_counted(places: Installation, tmp_path: Path) -> None:
    report = count_rows(DataQuestion(str(write_rows(tmp_path / "d.jsonl", [chat("how", "tall")] * 2))), places)
    assert report.counts is None
    assert report.duplicates == 1


def test_chats_for_a_model_without_a_template_have_no_tokens(places: Installation, tmp_path: Path) -> None:
    folder = stub_model(tmp_path / "base")
    save_tokenizer(folder, chat_template=False)
    data = write_rows(tmp_path / "d.jsonl", [chat("how", "tall")])
    assert count_rows(DataQuestion(str(data), model=str(folder)), places).counts is None
    pair = write_rows(tmp_path / "p.jsonl", [{"prompt": "how", "completion": " tall"}])
    assert counted(count_rows(DataQuestion(str(pair), model=str(folder)), places)).trained_tokens == 2


def test_what_cannot_be_read_is_refused_in_a_sentence(model: Path, places: Installation, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no data set"):
        count_rows(DataQuestion(str(tmp_path / "none.jsonl"), model=str(model)), places)
    data = write_rows(tmp_path / "d.jsonl", [chat("how", "tall")])
    for file, content in (("tokenizer.json", "{"), ("tokenizer.json", "{}"), ("config.json", json.dumps({**STUB, "hidden_size": 7}))):  # fmt: skip
        (broken := stub_model(tmp_path / "broken")).joinpath(file).write_text(content)
        with pytest.raises(ModelError, match="cannot be loaded"):
            count_rows(DataQuestion(str(data), model=str(broken)), places)


@pytest.mark.parametrize(
    ("lengths", "batch_size", "share"),
    [([4, 4, 4, 4], 2, 0.0), ([1, 3], 2, 1 / 3), ([1, 3, 5], 2, 2 / 11), ([], 2, 0.0), ([7], 1, 0.0)],
)
def test_padding_is_what_fills_batches_up(lengths: list[int], batch_size: int, share: float) -> None:
    import numpy as np

    assert padded_share(np.array(lengths, np.int64), batch_size) == pytest.approx(share)


@pytest.mark.parametrize(
    ("lengths", "max_length"),
    [([5], 1024), ([10, 900], 100), (list(range(1, 2000)), 512), ([3] * 999 + [50_000], 1024), ([0, 7], 4), ([], 8)],
)
def test_bars_end_with_the_longest_row_and_one_edge_is_the_cut(lengths: list[int], max_length: int) -> None:
    import numpy as np

    edges = bar_edges(np.array(lengths, np.int64), max_length)
    assert edges == sorted(set(edges))
    assert len(edges) <= 30
    assert edges[-1:] == ([max(lengths)] if lengths else [])
    if lengths and max(lengths) > max_length:
        assert max_length in edges


def test_rows_on_each_side_of_the_split_and_the_longest_that_is_kept(
    model: Path, places: Installation, tmp_path: Path
) -> None:
    rows = [chat(words(3), words(n)) for n in range(1, 9)] + [chat(words(40), "tall")] * 2
    question = DataQuestion(str(write_rows(tmp_path / "d.jsonl", rows)), model=str(model), max_length=12, val_size=0.3)
    counts = counted(count_rows(question, places))
    assert counts.trained_rows + counts.held_back_rows == 8, "two teach nothing"
    assert counts.longest_kept == 12
    assert counts.longest == 45


def test_the_end_of_a_turn_is_looked_at(model: Path, places: Installation, tmp_path: Path) -> None:
    folder = stub_model(tmp_path / "endless")
    save_tokenizer(folder)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    )
    data = write_rows(tmp_path / "d.jsonl", [chat("how", "tall")])
    (note,) = count_rows(DataQuestion(str(data), model=str(folder)), places).notes_of("no_end_of_turn")
    assert note.message is not None
    assert note.remedy is not None
    (folder / "chat_template.jinja").write_text("{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|user|>{% endfor %}")  # fmt: skip
    (note,) = count_rows(DataQuestion(str(data), model=str(folder)), places).notes_of("end_is_not_eos")
    assert note.detail == "<|user|>"
    assert noted(count_rows(DataQuestion(str(data), model=str(model)), places)) == {}


def test_the_log_of_a_run_counts_as_the_data_page_does(model: Path, places: Installation, tmp_path: Path) -> None:
    lot = random.Random(1)
    rows = [chat(words(lot.randint(1, 20), lot), words(lot.randint(1, 20), lot)) for _ in range(50)]
    question = DataQuestion(str(write_rows(tmp_path / "d.jsonl", rows)), model=str(model), max_length=20)
    counts = counted(count_rows(question, places))
    examples = open_asked(question, places)
    logged = RowCounts("d", len(examples), 20)
    for index, row in enumerate(labeller_for(question).label(list(examples))):
        logged.add(index, examples.row_number(index), row)
        logged.add(index, examples.row_number(index), row)  # in the next epoch it is no other
    assert counts.cut > counts.behind_cut > 0
    assert (logged.cut.count, logged.without_end.count, logged.behind_cut.count) == (counts.cut, counts.without_end, counts.behind_cut)  # fmt: skip
    assert (logged.tokens, logged.trained_tokens, logged.longest) == (counts.tokens, counts.trained_tokens, counts.longest)  # fmt: skip


def test_a_row_that_is_labelled_whole_has_no_note() -> None:
    from lora_backend.tokens.labels import LabelRules
    from lora_backend.tokens.token_census import TokenCensus

    census = TokenCensus(LabelRules(8))
    census.add(1, Labelled([1, 2], [IGNORED, 2], 2, False, False, 0))
    census.add(2, Labelled([1, 2], [IGNORED, 2], 2, False, False, 1))
    assert [(note.code, note.rows) for note in census.notes()] == [("lost_answer", [2])]
    assert census.counts(2).trained_tokens == 2
