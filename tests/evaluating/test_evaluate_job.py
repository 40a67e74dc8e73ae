"""An evaluation of a trained adapter: its figures, its files, and what it refuses in one sentence."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from lora_backend.evaluating import held_out
from lora_backend.runs.processes.job_progress import JobProgress
from lora_backend.runs.record.evaluation_documents import EvaluatedAnswer, EvaluatedRow
from lora_backend.runs.record.job_documents import Column
from lora_backend.runs.record.locked_files import read_jsonl
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from tests.evaluating.conftest import Evaluate, questions, result_of
from tests.run_files import answers_of, points_of, status_of
from tests.tiny import ANSWERS, QUESTIONS, chats, make_model, make_word_nan, prompts, write_rows


def said(folder: RunStore) -> str:
    state = folder.state()
    assert state.state == "failed"
    assert state.message is not None
    return state.message.text("en")


def rows_of(folder: RunStore) -> list[EvaluatedRow]:
    return [EvaluatedRow.read(row) for row in read_jsonl(folder.path / "rows.jsonl")]


def answered(folder: RunStore) -> list[EvaluatedAnswer]:
    return [EvaluatedAnswer.read(row) for row in read_jsonl(folder.answers_jsonl)]


def test_the_loss_is_the_runs_own_eval_loss_on_the_same_rows(
    evaluate: Evaluate, trained: RunStore, place: Path
) -> None:
    folder, code = evaluate(dataset=str(place / "held_out.jsonl"))
    result = result_of(folder)
    assert (code, folder.state().state) == (0, "finished")
    base, adapter = result.columns
    assert adapter.loss is not None
    assert base.loss is not None
    last = [point["eval_loss"] for point in points_of(trained) if "eval_loss" in point][-1]
    assert adapter.loss.value == pytest.approx(last, rel=1e-5)
    assert adapter.perplexity == pytest.approx(math.exp(adapter.loss.value))
    assert base.loss.value > adapter.loss.value
    change = adapter.loss_change
    assert change is not None
    assert change.low is not None
    assert change.high is not None
    assert change.value == pytest.approx(adapter.loss.value - base.loss.value)
    assert change.low <= change.value <= change.high < 0
    assert (base.loss_change, base.token_accuracy_change) == (None, None)
    assert adapter.token_accuracy is not None
    assert base.token_accuracy is not None
    assert adapter.token_accuracy.value > 0.8 > base.token_accuracy.value
    assert result.rows is not None
    assert (result.rows.num_rows, result.rows.num_left_out, result.rows.num_cut) == (4, 0, 0)
    assert result.num_tokens == sum(len(answer.split()) + 1 for answer in ANSWERS), "every word and the end mark"


def test_each_row_has_its_figures_and_the_most_changed_are_named(evaluate: Evaluate, place: Path) -> None:
    folder, _ = evaluate(dataset=str(place / "held_out.jsonl"))
    result, rows = result_of(folder), rows_of(folder)
    assert [row.row for row in rows] == [1, 2, 3, 4]
    for column in result.columns:
        nats = sum((row.losses[column.label] or 0) * row.num_tokens for row in rows)
        right = sum(row.right_tokens[column.label] for row in rows)
        assert column.loss is not None
        assert column.token_accuracy is not None
        assert column.loss.value == pytest.approx(nats / result.num_tokens)
        assert column.token_accuracy.value == pytest.approx(right / result.num_tokens)
    (changes,) = result.changes
    assert (changes.label, len(changes.better), changes.worse) == ("adapter", 4, [])
    gains = [one.after - one.before for one in changes.better]
    assert gains == sorted(gains)
    most = changes.better[0]
    assert (most.prompt, most.text) == (QUESTIONS[most.row - 1], ANSWERS[most.row - 1])
    assert most.after == pytest.approx(rows[most.row - 1].losses["adapter"])


def test_questions_are_answered_as_after_training_and_counted_by_group(
    evaluate: Evaluate, trained: RunStore, place: Path
) -> None:
    folder, _ = evaluate(questions=str(place / "questions.jsonl"))
    result, answers = result_of(folder), answered(folder)
    for answer, then in zip(answers, answers_of(trained), strict=True):
        assert (answer.of, answer.prompt, answer.expect) == ("question", then["question"], then["expect"])
        assert answer.answers["base"].text == then["base_answer"]
        assert answer.answers["adapter"].text == then["adapter_answer"]
        assert answer.answers["adapter"].contained == then["adapter_correct"]
    base, adapter = result.columns
    assert adapter.answers is not None
    assert base.answers is not None
    right, before = (sum(then[f"{who}_correct"] for then in answers_of(trained)) for who in ("adapter", "base"))
    assert (adapter.answers.contained, adapter.answers.num_questions, base.answers.contained) == (right, 4, before)
    assert right >= 3
    assert adapter.answers.exact == 0, "the last word is contained; it is not the whole answer"
    assert [(score.group, score.num_questions) for score in adapter.groups] == [("short", 2), ("long", 2)]
    assert sum(score.contained for score in adapter.groups) == right
    assert adapter.contained_change is not None
    assert adapter.contained_change.value == (right - before) / 4
    assert (adapter.loss, result.rows, result.num_questions) == (None, None, 4)


def test_prompts_are_answered_by_every_column_with_the_asked_sampling(
    evaluate: Evaluate, trained: RunStore, place: Path
) -> None:
    learned = answers_of(trained)[2]["adapter_answer"].split()
    assert len(learned) > 3
    file = place / "prompts.txt"
    file.write_text(f"{QUESTIONS[2]}\n\n{QUESTIONS[0]}\n", "utf-8")
    folder, _ = evaluate(prompts=str(file), sampling={"max_new_tokens": 3})
    answers = answered(folder)
    assert [(answer.of, answer.prompt) for answer in answers] == [("prompt", QUESTIONS[2]), ("prompt", QUESTIONS[0])]
    assert answers[0].answers["adapter"].text == " ".join(learned[:3])
    assert {len(one.answers["base"].text.split()) for one in answers} <= {0, 1, 2, 3}
    drawn = {"max_new_tokens": 8, "temperature": 2.0, "seed": 1}
    texts = [[one.answers["base"].text for one in answered(evaluate(prompts=str(file), sampling=drawn | more)[0])] for more in ({}, {}, {"seed": 2})]  # fmt: skip
    assert texts[0] == texts[1] != texts[2]
    folder, _ = evaluate(prompts=str(file), sampling={"stop": [learned[2]]})
    assert answered(folder)[0].answers["adapter"].text == " ".join(learned[:2])


def test_several_adapters_of_one_base_stand_side_by_side(evaluate: Evaluate, trained: RunStore, place: Path) -> None:
    first = trained.checkpoints / "checkpoint-40" / "adapter"
    columns = [
        Column(label="early", adapter=str(first)), Column(label="base"), Column(label="late", adapter=str(trained.adapter))
    ]  # fmt: skip
    folder, code = evaluate(columns=columns, dataset=str(place / "held_out.jsonl"))
    assert code == 0
    result = result_of(folder)
    assert [column.label for column in result.columns] == ["early", "base", "late"]
    apart, _ = evaluate(dataset=str(place / "held_out.jsonl"))
    losses = {column.label: column.loss for column in result.columns}
    assert losses["base"] == result_of(apart).columns[0].loss
    assert losses["late"] == result_of(apart).columns[1].loss
    assert [changes.label for changes in result.changes] == ["base", "late"], "the first is what they are held against"


def test_rows_are_read_and_cut_as_the_values_say(evaluate: Evaluate, place: Path) -> None:
    rows = [{"q": one["prompt"], "a": one["completion"]} for one in prompts(1)]
    file = write_rows(place / "columns.jsonl", [*rows, {"q": 7}])
    values = {
        "precision": "fp32", "data_format": "prompt_completion", "data_columns": {"prompt": "q", "completion": "a"},
        "max_bad_rows": 1, "max_length": 8,
    }  # fmt: skip
    result = result_of(evaluate(dataset=str(file), values=values)[0])
    assert result.rows is not None
    assert (result.rows.num_rows, result.rows.num_bad, result.rows.num_cut) == (4, 1, 4)
    folder, code = evaluate(dataset=str(file), values=values | {"max_bad_rows": 0})
    assert (code, "Row 5" in said(folder) or "Line 5" in said(folder)) == (1, True), said(folder)


def test_rows_that_a_run_held_back_are_measured_again(evaluate: Evaluate, place: Path) -> None:
    data = write_rows(place / "all.jsonl", prompts(5))
    values = {"precision": "fp32", "dataset": str(data), "val_size": 0.2, "seed": 3}
    folder, _ = evaluate(values=values)
    result = result_of(folder)
    assert result.rows is not None
    assert (result.rows.num_rows, result.rows.is_held_back, result.rows.path) == (4, True, str(data))
    from lora_backend.data.held_back import held_back

    assert [row.row - 1 for row in rows_of(folder)] == held_back(20, 0.2, 3).tolist()


def test_the_first_rows_alone(evaluate: Evaluate, place: Path) -> None:
    folder, _ = evaluate(dataset=str(place / "held_out.jsonl"), max_rows=3)
    assert [row.row for row in rows_of(folder)] == [1, 2, 3]


def test_a_stop_in_the_middle_leaves_no_result(
    evaluate: Evaluate, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out, "MOST_ROWS", 1)
    told: list[str] = []
    at = JobProgress.at

    def stop_at_the_third(self: JobProgress, fraction: float, *args: Any) -> None:
        if args and args[0] is not None:
            told.append(args[0].text("en"))
            if len(told) == 3:
                request_stop(self._folder)
        at(self, fraction, *args)

    monkeypatch.setattr(JobProgress, "at", stop_at_the_third)
    folder, _ = evaluate(dataset=str(place / "held_out.jsonl"), questions=str(place / "questions.jsonl"))
    assert folder.state().state == "stopped"
    assert len(told) == 3, "it ends behind that batch"
    assert told[0].startswith("base: 1 of 4, about")
    assert not folder.result_json.exists()
    assert not (folder.path / "rows.jsonl").exists()
    assert not folder.answers_jsonl.exists()
    assert status_of(folder)["stage"] == "measuring"


def test_an_adapter_of_another_base_is_refused_by_identity(
    evaluate: Evaluate, trained: RunStore, place: Path, tiny_model: Path
) -> None:
    other = place / "other"
    if not other.exists():
        shutil.copytree(tiny_model, other)
        weights = bytearray((other / "model.safetensors").read_bytes())
        weights[-8:] = b"\x01\x02\x03\x3c\x05\x06\x07\x3c"
        (other / "model.safetensors").write_bytes(weights)
    folder, code = evaluate(base_model=str(other), dataset=str(place / "held_out.jsonl"))
    assert code == 1
    assert said(folder) == f"The adapter adapter was trained on {tiny_model}, not on {other}. Name its own base model."


def test_an_adapter_that_does_not_arrive_whole_is_refused(
    evaluate: Evaluate, trained: RunStore, place: Path, tiny_model: Path
) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(trained.adapter, place / "broken", dirs_exist_ok=True)
    file = broken / "adapter_model.safetensors"
    tensors = load_file(file)
    gone = next(name for name in tensors if "q_proj.lora_B" in name)
    save_file({name: tensor for name, tensor in tensors.items() if name != gone}, file)
    columns = [Column(label="base"), Column(label="half", adapter=str(broken))]
    folder, _ = evaluate(columns=columns, dataset=str(place / "held_out.jsonl"))
    assert said(folder).startswith("The adapter half does not fit the base model: ")
    assert "q_proj.lora_B" in said(folder)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"dataset": "long.jsonl", "values": {"max_length": 2, "precision": "fp32"}}, "No row has anything left to learn within `max_length` 2"),
        ({"dataset": "gone.jsonl"}, "gone.jsonl"),
        ({"prompts": "empty.txt"}, "The prompt file empty.txt is empty"),
        ({"questions": "empty.txt"}, "empty.txt is empty"),
        ({}, "There is nothing to measure"),
        ({"base_model": "/no/such/model", "dataset": "held_out.jsonl"}, "/no/such/model"),
        ({"dataset": "held_out.jsonl", "values": {"max_length": -1}}, "max_length"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_said_in_a_sentence(
    evaluate: Evaluate, trained: RunStore, place: Path, asked: dict[str, Any], says: str
) -> None:
    write_rows(place / "long.jsonl", chats(1))
    (place / "empty.txt").write_text("\n \n")
    named = {key: str(place / value) if key in ("dataset", "prompts", "questions") else value for key, value in asked.items()}  # fmt: skip
    folder, code = evaluate(**named)
    assert code == 1
    assert says in said(folder)
    assert not folder.result_json.exists()


def test_questions_without_expect_and_a_base_without_a_template_are_said(
    evaluate: Evaluate, place: Path, tiny_model: Path
) -> None:
    plain = make_model(place / "plain", chat_template=False)
    rows = [json.loads(line) for line in questions(place / "mixed.jsonl").read_text().splitlines()]
    del rows[0]["expect"]
    write_rows(place / "mixed.jsonl", rows)
    folder, code = evaluate(base_model=str(plain), columns=[Column(label="base")], questions=str(place / "mixed.jsonl"))
    result = result_of(folder)
    assert code == 0
    assert result.is_completion
    assert [note.text("en") for note in result.notes] == [
        "The base model has no chat template, so questions and prompts are continued as text, not answered.",
        "1 question has no `expect`, so its answers are shown and not counted.",
    ]
    score = result.columns[0].answers
    assert score is not None
    assert (score.num_questions, result.num_questions) == (3, 4)
    assert answered(folder)[0].answers["base"].contained is None


def test_a_loss_that_is_no_number_is_said_and_counts_in_no_mean(evaluate: Evaluate, place: Path) -> None:
    broken = make_word_nan(make_model(place / "nan"), "tall")
    folder, code = evaluate(
        base_model=str(broken), columns=[Column(label="base")], dataset=str(place / "held_out.jsonl")
    )
    result = result_of(folder)
    (column,) = result.columns
    assert (code, column.loss, column.perplexity, column.num_nan_rows) == (0, None, None, 1)
    assert "the loss of 1 row is not a number" in result.notes[0].text("en")
    losses = [row.losses["base"] for row in rows_of(folder)]
    assert losses[0] is None
    assert None not in losses[1:]


def test_a_row_longer_than_the_models_positions_is_refused_by_name(evaluate: Evaluate, place: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from tests.tiny import save_tokenizer

    model = place / "gpt2"
    words = save_tokenizer(model)
    GPT2LMHeadModel(GPT2Config(vocab_size=words, n_positions=8, n_embd=8, n_layer=1, n_head=2)).save_pretrained(model)
    folder, _ = evaluate(base_model=str(model), columns=[Column(label="base")], dataset=str(place / "held_out.jsonl"))
    assert "but the model has only 8 positions" in said(folder)
    folder, _ = evaluate(base_model=str(model), columns=[Column(label="base")], questions=str(place / "questions.jsonl"))  # fmt: skip
    assert "but the model has only 8 positions" in said(folder)


@pytest.mark.parametrize(
    "settings", [{"init_lora_weights": "pissa"}, {"bias": "all"}, {"modules_to_save": ["lm_head"]}]
)
def test_an_adapter_that_changes_the_base_changes_no_other_column(
    evaluate: Evaluate, trained: RunStore, place: Path, tiny_model: Path, settings: dict[str, Any]
) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = place / "of_base" / next(iter(settings))
    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], **settings))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    plain = result_of(evaluate(dataset=str(place / "held_out.jsonl"))[0])
    columns = [
        Column(label="changes", adapter=str(folder)), Column(label="adapter", adapter=str(trained.adapter)),
        Column(label="again", adapter=str(folder)), Column(label="base"),
    ]  # fmt: skip
    losses = {one.label: one.loss for one in result_of(evaluate(columns=columns, dataset=str(place / "held_out.jsonl"))[0]).columns}  # fmt: skip
    assert losses["base"] == plain.columns[0].loss
    assert losses["adapter"] == plain.columns[1].loss
    assert losses["changes"] == losses["again"] != losses["base"]
