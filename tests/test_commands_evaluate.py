"""`evaluate`: what it prints, what it exits with, what it takes of a run, and that it can be a job of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from lora_backend.installation import this_installation
from lora_backend.runs.history.evaluations import evaluations_of
from lora_backend.runs.record.evaluation_documents import EvaluateResult
from lora_backend.runs.record.job_documents import EvaluateRequest
from lora_backend.runs.record.run_store import RunStore, list_runs
from tests.command_line import strict
from tests.run_files import make_run
from tests.tiny import chats, make_published, prompts, write_rows
from tests.waiting import until


@pytest.fixture
def run(workspace: Path, tmp_path: Path, tiny_model: Path) -> RunStore:
    """A run whose adapter is a fresh one, which changes nothing."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    values = {
        "model_name": str(tiny_model), "r": 2, "precision": "fp32", "max_length": 64,
        "dataset": str(write_rows(tmp_path / "train.jsonl", prompts(5))),
        "eval_dataset": str(write_rows(tmp_path / "held_out.jsonl", chats(1))),
    }  # fmt: skip
    run = make_run(workspace / "runs", config=values, config_text="", argv=None, name="Mine")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), LoraConfig(task_type="CAUSAL_LM", r=2))
    model.save_pretrained(run.adapter)
    return run


def request_of(run: dict[str, Any]) -> EvaluateRequest:
    return EvaluateRequest.read(json.loads((Path(run["path"]) / "run.json").read_text())["config"])


def test_a_run_is_measured_on_its_own_rows_and_the_json_is_one_document(
    run: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", run.id, "--json"]) == 0
    document = strict(capsys.readouterr().out)
    assert (document["state"], document["result"]["rows"]["num_rows"]) == ("finished", 4)
    base, adapter = document["result"]["columns"]
    assert (base["label"], adapter["label"]) == ("model", "Mine")
    assert adapter["loss"]["value"] == pytest.approx(base["loss"]["value"])
    assert adapter["loss_change"]["low"] <= 0 <= adapter["loss_change"]["high"]
    asked = request_of(document)
    assert (asked.of_run, asked.dataset, asked.values["max_length"]) == (run.id, run.read_record().config["eval_dataset"], 64)  # fmt: skip
    (job,) = evaluations_of(run)
    assert job.id == document["run"]
    assert evaluations_of(run)[0].read_result(EvaluateResult) is not None


def test_the_table_and_the_answers_of_prompts_are_printed(
    run: RunStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text("how tall is the tower\n")
    rows = str(tmp_path / "held_out.jsonl")
    assert main(["evaluate", str(run.adapter), "--dataset", rows, "--prompts", str(tmp_path / "prompts.txt"), "--max-new-tokens", "2", "--lang", "en"]) == 0  # fmt: skip
    printed = capsys.readouterr().out
    assert "95% interval" in printed
    assert f"{rows}: 4 rows, " in printed
    assert "Perplexity" in printed
    assert "\n> how tall is the tower\nmodel: " in printed


def test_several_adapters_of_one_base_have_labels_of_their_own(run: RunStore, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    assert main(["evaluate", run.id, str(run.adapter), "--max-rows", "2", "--json"]) == 0
    columns = strict(capsys.readouterr().out)["result"]["columns"]
    assert [column["label"] for column in columns] == ["model", "Mine", "Mine (2)"]


def test_rows_that_the_run_held_back_stand_in_for_an_eval_dataset(
    run: RunStore, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {**run.read_record().config, "val_size": 0.2, "seed": 7}
    del values["eval_dataset"]
    other = make_run(workspace / "runs", config=values, config_text="", argv=None)
    run.adapter.rename(other.adapter)
    assert main(["evaluate", other.id, "--json"]) == 0
    rows = strict(capsys.readouterr().out)["result"]["rows"]
    assert (rows["is_held_back"], rows["num_rows"]) == (True, 4)


def test_a_wrong_question_is_refused_before_a_job_is_made(
    run: RunStore, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = make_run(workspace / "runs", config={"model_name": run.read_record().config["model_name"]}, config_text="", argv=None)  # fmt: skip
    make_published(bare.adapter)
    nameless = make_published(tmp_path / "nameless")
    for words, says in (
        (["gone"], "Run gone was not found"),
        ([str(tmp_path)], "contains no adapter"),
        ([bare.id], "so there is nothing to measure"),
        ([str(nameless), "--dataset", "x.jsonl"], "does not say which base model it was trained on"),
        ([run.id, "--model", "/no/such/model"], "/no/such/model"),
        ([run.id, "--max-rows", "0"], "`--max-rows` must be a whole number above 0"),
        ([run.id, "--set", "max_length"], "has no value"),
    ):
        assert main(["evaluate", *words, "--json"]) == 2, words
        assert says in strict(capsys.readouterr().out)["error"]
    assert {one.id for one in list_runs(workspace / "runs")} == {run.id, bare.id}


def test_a_job_that_fails_ends_with_1_and_its_sentence(run: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", run.id, "--set", "max_length=2", "--json"]) == 1
    document = strict(capsys.readouterr().out)
    assert (document["state"], document["result"]) == ("failed", None)
    assert "within `max_length` 2" in document["error"]


def test_detached_it_is_a_job_of_its_own(run: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", run.id, "--detach", "--json"]) == 0
    document = strict(capsys.readouterr().out)
    job = RunStore(this_installation().runs / document["run"])
    until(job.exit_json.exists, "the end")
    assert (job.state().state, job.read_record().kind) == ("finished", "evaluate")
    assert evaluations_of(run)[0].read_result(EvaluateResult) is not None
