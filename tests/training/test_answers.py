"""The questions that a run answers when it is trained: by base and adapter, as far as it is let."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from lora_backend.i18n import Message
from lora_backend.runs.record.documents import Answer, Status
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from lora_backend.trainer.direct_run import train_in_folder
from lora_backend.training import answers as answers_module
from lora_backend.training.answer_progress import Answered
from lora_backend.training.answers import MAX_NEW_TOKENS, answer_all, answer_questions
from tests.run_files import answers_of
from tests.tiny import ANSWERS, QUESTIONS, write_rows
from tests.training.helpers import made, run

Make = Callable[..., dict[str, Any]]


ASKED = [
    {"messages": [{"role": "user", "content": " ".join(QUESTIONS[:length])}], "expect": [], "group": str(length)}
    for length in (3, 1, 4, 2, 1)
]
"""Questions of several lengths, not in their order."""


def asked(tmp_path: Path) -> str:
    rows: list[dict[str, object]] = [
        {"messages": [{"role": "user", "content": question}], "expect": [answer.upper()], "group": "g"}
        for question, answer in zip(QUESTIONS, ANSWERS, strict=True)
    ]
    return str(write_rows(tmp_path / "questions.jsonl", rows))


def test_questions_are_answered_by_base_and_adapter(config: Make, workspace: Path, tmp_path: Path) -> None:
    folder = run(workspace, config(questions=asked(tmp_path), num_epochs=60, r=16, learning_rate=3e-2))
    answers = answers_of(folder)
    assert [row["question"] for row in answers] == QUESTIONS
    assert {row["group"] for row in answers} == {"g"}
    assert not any(row["base_correct"] for row in answers)
    assert sum(row["adapter_correct"] for row in answers) >= 3, answers
    right = next(row for row in answers if row["adapter_correct"])
    assert right["adapter_answer"] in ANSWERS, "it learned to stop as well"


def test_a_stop_while_questions_are_answered_ends_a_run_that_is_finished(
    config: Make, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "MOST_ROWS", 1)
    folder = made(workspace, config(questions=asked(tmp_path), max_steps=1))
    changing_status = RunStore.changing_status

    @contextmanager
    def stop_after_two(self: RunStore) -> Iterator[Status]:
        with changing_status(self) as status:
            yield status
        if status.attempt.fraction == 2 / len(QUESTIONS):
            request_stop(self)

    monkeypatch.setattr(RunStore, "changing_status", stop_after_two)
    train_in_folder(folder)
    state = folder.state()
    assert (state.state, len(answers_of(folder))) == ("finished", 2)
    assert state.message is not None
    assert f"2 of {len(QUESTIONS)} questions" in state.message.text("en")
    assert (folder.adapter / "adapter_model.safetensors").is_file()


def test_every_answer_carries_the_format(config: Make, workspace: Path, tmp_path: Path) -> None:
    rows = answers_of(run(workspace, config(questions=asked(tmp_path), max_steps=1)))
    assert {row.get("format") for row in rows} == {1}


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_the_base_models_answers_are_the_base_models_however_the_adapter_started(
    start: str, config: Make, workspace: Path, tmp_path: Path
) -> None:
    """These starts take a share out of the base weights, so switching the adapter off is not the base model."""
    plain = run(workspace, config(questions=asked(tmp_path), max_steps=1, r=16))
    other = run(workspace, config(questions=asked(tmp_path), max_steps=1, r=16, init_lora_weights=start))
    base = [row["base_answer"] for row in answers_of(plain)]
    assert [row["base_answer"] for row in answers_of(other)] == base


@pytest.fixture
def adapted(tiny_model: Path) -> PeftModel:
    """A model whose adapter says something else than its base, one answer of which ends early."""
    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data *= 8
    assert isinstance(model, PeftModel)
    return model.eval()


@pytest.fixture
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_model)


def alone(model: PeftModel, tokenizer: PreTrainedTokenizerBase, question: dict[str, Any]) -> str:
    """The answer to a question that is asked by itself, without padding."""
    ids = tokenizer.apply_chat_template(question["messages"], add_generation_prompt=True, return_tensors="pt")
    output = model.generate(**ids, max_new_tokens=MAX_NEW_TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    return str(tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


def stop_after(times: int) -> Callable[[], bool]:
    """Says that a stop was asked for when it is asked so often."""
    asked = count(1)
    return lambda: next(asked) >= times


@pytest.mark.parametrize("most_rows", [1, 2, 64])
def test_an_answer_is_what_the_model_says_when_it_is_asked_alone(
    most_rows: int, adapted: PeftModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "MOST_ROWS", most_rows)
    rows = answer_questions(adapted, tokenizer, ASKED)
    assert [row.group for row in rows] == [question["group"] for question in ASKED]
    assert [row.adapter_answer for row in rows] == [alone(adapted, tokenizer, question) for question in ASKED]
    with adapted.disable_adapter():
        base = [alone(adapted, tokenizer, question) for question in ASKED]
        assert answer_all(adapted, tokenizer, ASKED) == base
    assert [row.base_answer for row in rows] == base
    assert base != [row.adapter_answer for row in rows]


def test_the_head_gets_its_input_in_one_piece_of_memory_while_questions_are_answered(
    adapted: PeftModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """From a slice of every row torch copies the head's weight for each row: gigabytes for a real vocabulary."""
    head = adapted.get_output_embeddings()
    seen: list[tuple[int, bool]] = []

    def look(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], __: torch.Tensor) -> None:
        seen.append((inputs[0].shape[1], inputs[0].is_contiguous()))

    head.register_forward_hook(look)
    answer_all(adapted, tokenizer, ASKED)
    assert set(seen) == {(1, True)}
    assert not head._forward_pre_hooks, "what was put there is gone"


def test_how_many_are_answered_and_the_time_that_is_left_are_told_in_both_languages(
    adapted: PeftModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "MOST_ROWS", 2)
    told: list[Answered] = []
    answer_questions(adapted, tokenizer, ASKED, told.append, clock=map(float, count()).__next__)
    assert [far.part for far in told] == sorted(far.part for far in told)
    assert [far.answered for far in told] == sorted(far.answered for far in told)
    assert len(told) > 2 * 3, "it is told within a batch as well"
    half = next(far for far in told if far.answered == 2)
    assert half.part == pytest.approx(2 / 5)
    assert half.left_s is not None
    assert half.left_s > 0
    assert (told[-1].answered, told[-1].part) == (5, 1.0)
    assert told[-1].message().text("en") == "5 of 5 questions answered"
    far = Answered(12, 46, 0.3, 20.4)
    assert far.message().text("en") == "12 of 46 questions answered, about 20 s left"
    assert far.message().text("zh") == "已回答 12/46 题，预计剩余 20 秒"
    assert Message.from_json(far.message().to_json()).text("en") == far.message().text("en")


def test_each_answer_is_told_once_as_soon_as_it_has_ended(
    adapted: PeftModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Of one batch too: an answer that ends early waits for none that is longer."""
    whole = answer_questions(adapted, tokenizer, ASKED)
    short = min(range(len(ASKED)), key=lambda place: len(tokenizer(whole[place].adapter_answer)["input_ids"]))
    adapted.generation_config.eos_token_id = [2, tokenizer(whole[short].adapter_answer)["input_ids"][2]]
    heard: list[object] = []
    rows = answer_questions(
        adapted, tokenizer, ASKED, heard.append, clock=map(float, count()).__next__, said=heard.append
    )
    told = [one for one in heard if isinstance(one, Answer)]
    assert sorted(map(str, told)) == sorted(map(str, rows))
    last = max(place for place, one in enumerate(heard) if isinstance(one, Answered))
    assert heard.index(told[0]) < last, "before its batch was done"


def test_a_stop_ends_the_answers_before_their_next_token(
    adapted: PeftModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    passes: list[int] = []
    adapted.get_base_model().register_forward_pre_hook(lambda *_: passes.append(1))
    assert answer_questions(adapted, tokenizer, ASKED, shall_stop=stop_after(3)) == []
    assert len(passes) == 3, "no token was made behind the stop"


def test_an_answer_that_has_ended_when_the_stop_comes_is_kept(
    adapted: PeftModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "MOST_ROWS", 64)
    whole = answer_questions(adapted, tokenizer, ASKED)
    short = min(range(len(ASKED)), key=lambda place: len(tokenizer(whole[place].adapter_answer)["input_ids"]))
    adapted.generation_config.eos_token_id = [2, tokenizer(whole[short].adapter_answer)["input_ids"][2]]
    ended = answer_questions(adapted, tokenizer, ASKED)
    base = [row.base_answer or "" for row in ended]
    kept = answer_questions(adapted, tokenizer, ASKED, base_answers=base, shall_stop=stop_after(5))
    assert 0 < len(kept) < len(ASKED)
    assert all(row in ended for row in kept)


def test_a_batch_takes_no_more_than_its_share_of_free_memory(
    adapted: PeftModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    generate = adapted.generate

    def counting(**inputs: Any) -> Any:
        rows.append(len(inputs["input_ids"]))
        return generate(**inputs)

    monkeypatch.setattr(adapted, "generate", counting)
    answer_questions(adapted, tokenizer, ASKED)
    assert rows == [5, 5]
    rows.clear()
    monkeypatch.setattr(answers_module, "free_bytes", lambda _: 0)
    answer_questions(adapted, tokenizer, ASKED)
    assert rows == [1] * 10


def test_a_batch_that_does_not_fit_after_all_is_halved(
    adapted: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = answer_questions(adapted, tokenizer, ASKED)
    generate = adapted.generate

    def small(**inputs: Any) -> Any:
        if len(inputs["input_ids"]) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return generate(**inputs)

    monkeypatch.setattr(adapted, "generate", small)
    assert answer_questions(adapted, tokenizer, ASKED) == whole
    assert "5 questions at once need more memory than there is" in caplog.text


def test_another_error_is_not_taken_for_a_want_of_memory(
    adapted: PeftModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(adapted, "generate", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        answer_questions(adapted, tokenizer, ASKED)


def test_how_far_the_answers_are_stands_in_the_runs_status(
    config: Make, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "MOST_ROWS", 1)
    folder = made(workspace, config(questions=asked(tmp_path), max_steps=1))
    changing_status, seen = RunStore.changing_status, []

    @contextmanager
    def look(self: RunStore) -> Iterator[Status]:
        with changing_status(self) as status:
            yield status
        if status.attempt.stage == "answering" and status.attempt.detail:
            seen.append((status.attempt.detail.text("en"), status.attempt.fraction, status.attempt.eta_s))

    monkeypatch.setattr(RunStore, "changing_status", look)
    train_in_folder(folder)
    said, fraction, eta_s = next(one for one in seen if one[0].startswith("2 of 4 questions"))
    assert (fraction, said) == (0.5, f"2 of 4 questions answered, about {round(eta_s or 0)} s left")
