"""Two processes that share out a model's weights train what one trains, and what two with whole weights train, to the bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lora_backend.runs.record.run_store import RunStore
from tests.run_files import attempt_of, points_of, status_of
from tests.tiny import QUESTIONS
from tests.training.helpers import adapter_bytes, curve
from tests.training.peer_jobs import alone
from tests.training.peer_trainings import BEST, DROPPED, SHORT, UNEVEN, WITHIN, Trained, adapters_apart, compared

pytestmark = pytest.mark.timeout(900)  # torch is imported by each process
FSDP = {"strategy": "fsdp"}
ASKED = [{"messages": [{"role": "user", "content": one}], "expect": ["nine"]} for one in QUESTIONS[:2]]
COMPARED: dict[str, dict[str, Any]] = {
    "flat": UNEVEN,
    "padded, checkpointed": UNEVEN | SHORT | {"batching": "padded", "gradient_checkpointing": True, "loss_type": "nll"},
    "embedding": UNEVEN | SHORT | {"modules_to_save": ["embed_tokens"], "target_modules": ["q_proj", "lm_head"]},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("fsdp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLIGHTDECK_WORKSPACE", str(folder / "ws"))
        all_of = Trained(folder)
        questions = folder / "questions.jsonl"
        questions.write_text("".join(json.dumps(one) + "\n" for one in ASKED))
        asking = {"asking": UNEVEN | SHORT | {"questions": str(questions), "sample_every_steps": 5}}
        for name, values in (COMPARED | asking).items():
            alone(all_of.made(f"{name} by one", values))
            all_of.job(name, values | FSDP)
        all_of.job("offloaded", UNEVEN | SHORT | FSDP | {"fsdp_offload_params": True})
        all_of.job("best", BEST | FSDP)
        all_of.job("dropped", DROPPED | FSDP)
        all_of.job("dropped by ddp", DROPPED)
        all_of.job("resumed", DROPPED | FSDP, "stop within")
        all_of.job("resumed", act="resume")
        all_of.job("begun by two", DROPPED | FSDP, "stop")
        all_of.job("quantized", UNEVEN | SHORT | FSDP | {"quantization": "nf4"})
        all_of.start()
        yield all_of


@pytest.mark.parametrize("name", COMPARED)
def test_shared_weights_train_what_whole_ones_train(name: str, trained: Trained) -> None:
    two, one = trained.runs[name], trained.runs[f"{name} by one"]
    found = {key: compared(two, one, key) for key in ("loss", "eval_loss", "grad_norm")}
    found["adapter"] = adapters_apart(two, one)
    assert {key: value for key, value in found.items() if value > WITHIN} == {}, found
    assert [row.get("eval_token_accuracy") for row in points_of(two)] == [row.get("eval_token_accuracy") for row in points_of(one)]  # fmt: skip
    weights = [ended["weights"] for ended in trained.ended(name)]
    assert weights[0] == weights[1], "both have the same adapter, to the bit"


def test_weights_in_host_memory_change_nothing(trained: Trained) -> None:
    offloaded, whole = trained.runs["offloaded"], trained.runs["asking"]
    assert curve(offloaded) == curve(whole)
    assert adapter_bytes(offloaded) == adapter_bytes(whole)


def test_samples_and_answers_are_those_of_one_process(trained: Trained) -> None:
    def said(run: RunStore) -> Any:
        samples = [(one.step, one.question, one.answer) for one in run.read_samples()]
        return samples, [(one.base_answer, one.adapter_answer) for one in run.read_answers() or ()]

    samples, answers = said(trained.runs["asking"])
    assert (len(samples), len(answers)) == (2, 2)
    assert (samples, answers) == said(trained.runs["asking by one"])


def test_dropout_and_all_else_is_that_of_processes_with_whole_weights(trained: Trained) -> None:
    shared, whole = trained.runs["dropped"], trained.runs["dropped by ddp"]
    assert curve(shared) == curve(whole)
    assert adapter_bytes(shared) == adapter_bytes(whole)


def test_a_resume_goes_on_to_the_bit(trained: Trained) -> None:
    run, whole = trained.runs["resumed"], trained.runs["dropped"]
    assert attempt_of(run)["from_step"] > 0
    assert curve(run) == curve(whole)
    assert adapter_bytes(run) == adapter_bytes(whole)


def test_one_process_can_go_on_with_what_two_have_begun(trained: Trained) -> None:
    run = trained.runs["begun by two"]
    alone(run, "resume", {"strategy": "single"})
    assert (attempt_of(run)["from_step"], run.state().state) == (6, "finished")


def test_the_best_adapter_is_put_back_at_both(trained: Trained) -> None:
    assert status_of(trained.runs["best"])["outcome_cause"] == "early_stopping"
    weights = [ended["weights"] for ended in trained.ended("best")]
    assert weights[0] == weights[1]


def test_each_process_holds_its_part_of_the_weights(trained: Trained) -> None:
    held = [attempt_of(trained.runs[name])["measured"]["devices"] for name in ("flat", "flat by one")]
    parts, (whole,) = [one["weights"] for one in held[0]], [one["weights"] for one in held[1]]
    assert parts == pytest.approx([whole / 2] * 2, rel=0.05)


def test_weights_that_cannot_be_shared_out_are_refused_in_a_sentence(trained: Trained) -> None:
    for ended in trained.ended("quantized"):
        assert "fsdp gives every process a part" in ended["said"]
        assert "`quantization: nf4`" in ended["said"]
