"""An evaluation on its page, and the form that starts one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit
from streamlit.testing.v1 import AppTest

from lora_backend.installation import this_installation
from lora_backend.runs.record.evaluation_documents import (
    ColumnAnswer,
    ColumnChanges,
    EvaluatedAnswer,
    EvaluateResult,
    RowChange,
)
from lora_backend.runs.record.job_documents import EvaluateRequest
from lora_backend.runs.record.run_store import RunStore, list_runs
from pages.parts.job import evaluate_form
from tests.pages.screens import finished_run, texts
from tests.run_files import make_run
from tests.tiny import make_published, prompts, stub_model, write_rows
from tests.views.evaluated import RESULT


def shown(script: Callable[..., None], *args: object, **state: object) -> AppTest:
    at = AppTest.from_function(script, args=args, default_timeout=60)
    for key, value in state.items():
        at.session_state[key] = value
    at.run()
    assert not at.exception, at.exception
    return at


def evaluation(path: str) -> None:
    from pathlib import Path

    from lora_backend.i18n import use_language
    from lora_backend.runs.record.run_store import RunStore
    from pages.parts.job.evaluation import show_evaluation

    with use_language("en"):
        show_evaluation(RunStore(Path(path)))


def form(adapter: str, run: str | None) -> None:
    from pathlib import Path

    from lora_backend.runs.record.run_store import RunStore
    from pages.parts.job.evaluate_form import evaluate_button

    evaluate_button(Path(adapter), None if run is None else RunStore(Path(run)))


@pytest.fixture
def job(places: None) -> RunStore:
    return make_run(this_installation().runs, kind="evaluate", config={"base_model": "b", "columns": []}, config_text="", argv=None)  # fmt: skip


def test_before_its_end_there_is_nothing_to_show(job: RunStore) -> None:
    assert texts(shown(evaluation, str(job.path))) == ""


def test_the_page_has_headline_table_changed_rows_answers_and_files(job: RunStore) -> None:
    change = RowChange(row=7, before=2.0, after=0.5, prompt="**q**", text="a")
    labels = {"base": ColumnAnswer(text="no", contained=False, exact=False), "mine": ColumnAnswer(text="*y* <b>", contained=True, exact=True)}  # fmt: skip
    answers = [
        EvaluatedAnswer(prompt="*why*", expect=["y"], answers=labels),
        EvaluatedAnswer(of="prompt", prompt="and", answers={"mine": ColumnAnswer(text="so")}),
    ]
    lines = [answer.model_dump_json(exclude_unset=True) + "\n" for answer in answers]
    job.answers_jsonl.write_text("".join(lines) + '{"half', "utf-8")
    job.write_result(RESULT.but(changes=[ColumnChanges(label="mine", better=[change])]))
    at = shown(evaluation, str(job.path))
    assert [element.value for element in at.header] == [
        "Loss 2.31 → 0.45 (−1.86, 95% interval −1.9 to −1.8)", "Right answers 2 → 18 of 20 questions",
    ]  # fmt: skip
    said = texts(at)
    assert "1,200 rows" in said
    assert "**\\*why\\***" in said, "text from outside is no markup"
    assert "*y* <b>" in said
    assert "✓ exact" in said
    assert "✗ wrong" in said
    columns, groups, better = (element.value for element in at.dataframe)
    assert list(columns["Model"]) == ["base", "mine"]
    assert list(groups["mine"]) == ["18 / 20"]
    assert list(better["Row"]) == [7]
    assert [button.label for button in at.get("download_button")] == ["JSON", "CSV"]


def test_an_empty_or_strange_result_breaks_no_page(job: RunStore) -> None:
    job.write_result(EvaluateResult(base_model="b"))
    shown(evaluation, str(job.path))
    job.result_json.write_text('{"base_model": 3, "columns": "x"}')
    assert texts(shown(evaluation, str(job.path))) == ""


@pytest.fixture
def trained(tmp_path: Path, places: None) -> RunStore:
    run = finished_run()
    model = stub_model(tmp_path / "base")
    rows = write_rows(tmp_path / "held_out.jsonl", prompts(1))
    values = {"model_name": str(model), "eval_dataset": str(rows), "max_length": 64}
    run = make_run(this_installation().runs, config=values, config_text="", argv=["x"], name="First")
    make_published(run.adapter)
    return run


def started(trained: RunStore) -> EvaluateRequest:
    (job,) = (run for run in list_runs(this_installation().runs) if run.read_record().kind == "evaluate")
    assert job.read_record().name == "First"
    return EvaluateRequest.read(job.read_record().config)


def test_with_nothing_chosen_the_runs_own_rows_are_measured(trained: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_backend.launching.jobs.start_or_queue", lambda *_: True)
    monkeypatch.setattr(streamlit, "switch_page", lambda *_, **__: None)
    at = shown(form, str(trained.adapter), str(trained.path))
    assert "the run's own evaluation rows" in texts(at)
    at.button[0].click().run()
    assert not at.error, at.error[0].value
    request = started(trained)
    config = trained.read_record().config
    assert (request.dataset, request.of_run, request.values) == (config["eval_dataset"], trained.id, {"max_length": 64})
    assert [column.adapter for column in request.columns] == [None, str(trained.adapter)]


def test_files_and_typed_prompts_are_taken_from_the_data_roots_alone(
    trained: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_backend.launching.jobs.start_or_queue", lambda *_: True)
    monkeypatch.setattr(streamlit, "switch_page", lambda *_, **__: None)
    choose = evaluate_form.PREFIX + str(trained.adapter) + "-dataset"
    at = shown(form, str(trained.adapter), str(trained.path), **{choose: "/etc/passwd"})
    at.button[0].click().run()
    assert "outside" in at.error[0].value
    at = shown(form, str(trained.adapter), str(trained.path), **{choose: "held_out.jsonl"})
    at.text_area[0].set_value("one\ntwo")
    at.number_input[0].set_value(2)
    at.button[0].click().run()
    assert not at.error, at.error[0].value
    request = started(trained)
    assert (request.dataset, request.questions, request.max_rows) == (str(tmp_path / "held_out.jsonl"), None, 2)
    assert request.prompts is not None
    assert Path(request.prompts).read_text() == "one\ntwo"


def test_an_adapter_without_a_run_needs_something_to_measure(trained: RunStore, tmp_path: Path) -> None:
    folder = make_published(tmp_path / "ws" / "handed")
    (folder / "adapter_config.json").write_text(f'{{"base_model_name_or_path": "{tmp_path / "base"}"}}')
    at = shown(form, str(folder), None)
    at.button[0].click().run()
    assert "There is nothing to measure" in at.error[0].value
