"""Folders of trainings that were not started here: what is read from them, and that nothing is written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lora_backend import outside
from lora_backend.errors import RunError
from lora_backend.runs.foreign.foreign_folder import open_folder
from lora_backend.runs.foreign.trainer_state import INLINE_BYTES, MOST_BYTES
from lora_backend.runs.record.curves import COLUMNS, points
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import add_point, make_run, set_status
from tests.verification.reports import folder_report

ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}  # fmt: skip


def state(step: int, **changes: Any) -> dict[str, Any]:
    """A `trainer_state.json` as transformers writes it."""
    history: list[dict[str, Any]] = [
        {"epoch": i / 10, "grad_norm": 1.5, "learning_rate": 1e-4, "loss": 4.0 / i, "step": i}
        for i in range(1, step + 1)
    ]
    history.append({"epoch": step / 10, "eval_loss": 0.5, "eval_runtime": 1.0, "step": step})
    return {
        "best_global_step": None, "best_metric": None, "best_model_checkpoint": None, "epoch": step / 10, "eval_steps": 500,
        "global_step": step, "is_hyper_param_search": False, "log_history": history, "max_steps": 40, "num_train_epochs": 4,
        "stateful_callbacks": {}, "total_flos": 1e9, "trial_params": None, **changes,
    }  # fmt: skip


def write(path: Path, data: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data), "utf-8")
    return path


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p.relative_to(folder)): ((s := p.lstat()).st_mtime_ns, s.st_size) for p in [folder, *folder.rglob("*")]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """What transformers' Trainer really leaves behind: evaluation, checkpoints, the best of them, the adapter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    out = tmp_path_factory.mktemp("outputs") / "shop-faq"
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model),
        LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
    )
    ids = torch.arange(8)
    rows = [{"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}] * 8
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=6,
        per_device_train_batch_size=2,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=2,
        save_steps=2,
        load_best_model_at_end=True,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        learning_rate=1e-2,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    trainer.save_state()
    trainer.save_model()
    return out


def test_what_the_trainer_left_opens_with_curves_best_checkpoint_and_ranks(trained: Path, tiny_model: Path) -> None:
    before = listing(trained)
    found = open_folder(trained)
    assert (found.title, found.base_model, found.run) == ("shop-faq", str(tiny_model), None)
    assert (found.step, found.total_steps) == (6, 6)
    assert set(found.columns) == set(COLUMNS)
    assert points(found.columns, "loss")[0].tolist() == [1, 2, 3, 4, 5, 6]
    assert points(found.columns, "eval_loss")[0].tolist() == [2, 4, 6]
    assert len(points(found.columns, "grad_norm")[0]) == 6
    assert [(c.step, c.has_adapter) for c in found.checkpoints] == [(2, True), (4, True), (6, True)]
    assert found.best_checkpoint == "checkpoint-6"
    assert found.best_metric == pytest.approx(points(found.columns, "eval_loss")[1][-1])
    assert found.runtime_s
    assert found.source == trained / "trainer_state.json"
    assert found.adapter == trained
    report = folder_report(trained, None)
    assert report["is_consistent"] is True
    assert set(report["actual_r_values"].values()) == {4}
    assert found.problems == ()
    assert listing(trained) == before


def test_one_checkpoint_opens_by_itself_under_its_folders_name(trained: Path) -> None:
    found = open_folder(trained / "checkpoint-4")
    assert found.title == "shop-faq/checkpoint-4"
    assert (found.step, found.total_steps, found.adapter) == (4, 6, trained / "checkpoint-4")


def test_a_folder_that_may_not_be_written_opens_and_stays_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out / "trainer_state.json", state(3))
    write(out / "checkpoint-3/trainer_state.json", state(3))
    write(out / "checkpoint-3/adapter_config.json", ADAPTER)
    folders = [out / "checkpoint-3", out]
    for folder in folders:
        folder.chmod(0o555)
    before = listing(tmp_path)
    try:
        assert open_folder(out).step == 3
        assert listing(tmp_path) == before
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_the_newest_checkpoint_speaks_by_number_not_by_name(tmp_path: Path) -> None:
    for step in (9, 10):
        write(tmp_path / f"checkpoint-{step}/trainer_state.json", state(step))
    write(tmp_path / "checkpoint-9/adapter_config.json", ADAPTER)
    found = open_folder(tmp_path)
    assert found.step == 10
    assert found.source == tmp_path / "checkpoint-10/trainer_state.json"
    assert found.adapter == tmp_path / "checkpoint-9", "the newest that has one"
    assert found.base_model == "org/base"


def test_a_resumed_training_is_further_than_the_state_that_was_left_at_the_top(tmp_path: Path) -> None:
    write(tmp_path / "trainer_state.json", state(10))
    write(tmp_path / "checkpoint-20/trainer_state.json", state(20))
    assert open_folder(tmp_path).step == 20


def test_an_old_checkpoint_that_is_half_written_is_not_looked_at(tmp_path: Path) -> None:
    write(tmp_path / "trainer_state.json", state(10))
    write(tmp_path / "checkpoint-10/trainer_state.json", "{")
    assert open_folder(tmp_path).problems == ()


def test_a_newest_checkpoint_that_is_half_written_leaves_the_one_before_and_says_so(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint-5/trainer_state.json", state(5))
    write(tmp_path / "checkpoint-6/trainer_state.json", json.dumps(state(6))[:200])
    found = open_folder(tmp_path)
    assert found.step == 5
    assert ["checkpoint-6" in problem.text() for problem in found.problems] == [True]


def test_the_log_of_llama_factory_gives_curves_before_there_is_a_checkpoint(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"current_steps": 5, "total_steps": 20, "loss": 2.0, "lr": 1e-4, "epoch": 0.5, "elapsed_time": "0:00:05"},
        {"current_steps": 10, "total_steps": 20, "loss": 1.5, "learning_rate": 5e-5, "epoch": 1.0},
        {"current_steps": 10, "total_steps": 20, "eval_loss": 1.7, "epoch": 1.0},
        {"current_steps": 15, "total_steps": 20, "loss": 9.0, "lr": 1e-5},
        {"current_steps": 11, "total_steps": 20, "loss": 1.4, "lr": 1e-5, "epoch": 1.1},  # resumed at 10
    ]
    write(tmp_path / "trainer_log.jsonl", "".join(json.dumps(row) + "\n" for row in rows) + '{"current_st')
    found = open_folder(tmp_path)
    assert (found.step, found.total_steps, found.epoch) == (11, 20, 1.1)
    assert [column.tolist() for column in points(found.columns, "loss")] == [[5, 10, 11], [2.0, 1.5, 1.4]]
    assert points(found.columns, "learning_rate")[1].tolist() == [1e-4, 5e-5, 1e-5]
    assert points(found.columns, "eval_loss")[0].tolist() == [10]
    write(
        tmp_path / "checkpoint-10/trainer_state.json",
        state(10, best_metric=0.25, best_model_checkpoint="x/checkpoint-10"),
    )
    found = open_folder(tmp_path)
    assert (found.step, found.best_metric, found.best_checkpoint) == (11, 0.25, "checkpoint-10")
    write(tmp_path / "checkpoint-12/trainer_state.json", state(12))
    assert open_folder(tmp_path).step == 12


def test_an_adapter_alone_opens_without_curves(tmp_path: Path) -> None:
    write(tmp_path / "mine/adapter_config.json", ADAPTER)
    found = open_folder(tmp_path / "mine")
    assert (found.title, found.base_model, found.adapter, found.columns) == ("mine", "org/base", tmp_path / "mine", {})


def test_nan_infinity_text_and_wrong_types_are_gaps(tmp_path: Path) -> None:
    rows = [
        {"step": 1, "loss": float("nan"), "grad_norm": float("inf")}, {"step": 2, "loss": "nan", "grad_norm": "0.5"},
        {"step": 3, "loss": "1.25", "learning_rate": None}, {"loss": 9.0}, {"step": "4", "loss": [1]},
        {"step": 5, "loss": True}, {"step": 6, "loss": 10**400}, "no row", None, {"step": {}, "loss": {}}, {"step": 9, "loss": 0.5},
    ]  # fmt: skip
    write(tmp_path / "trainer_state.json", state(9, log_history=rows))
    columns = open_folder(tmp_path).columns
    assert [column.tolist() for column in points(columns, "loss")] == [[3, 9], [1.25, 0.5]]
    assert points(columns, "grad_norm")[1].tolist() == [0.5]
    assert len(columns["step"]) == 9


@pytest.mark.parametrize("step", [-1, 1e300, float("nan"), "x", None, True, [], 10**4000])
def test_a_step_that_no_counter_would_say_is_none(step: object, tmp_path: Path) -> None:
    write(tmp_path / "trainer_state.json", state(2, global_step=step, max_steps=step))
    found = open_folder(tmp_path)
    assert (found.step, found.total_steps) == (None, None)


@pytest.mark.parametrize("path", ["C:\\out\\checkpoint-7", "/data/x/out/checkpoint-7", "checkpoint-7"])
def test_the_best_checkpoint_is_named_without_the_other_machines_path(path: str, tmp_path: Path) -> None:
    write(tmp_path / "trainer_state.json", state(9, best_model_checkpoint=path))
    assert open_folder(tmp_path).best_checkpoint == "checkpoint-7"


# ---------------------------------------------------------------------------------------------- refused


def refused(path: Path) -> str:
    with pytest.raises(RunError) as caught:
        open_folder(path)
    return str(caught.value)


def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    assert "no folder" in refused(tmp_path / "none")
    assert "is a file" in refused(write(tmp_path / "file", "x"))
    (tmp_path / "empty").mkdir()
    assert "no training" in refused(tmp_path / "empty")
    assert "no folder" in refused(tmp_path / "null\0byte")
    assert refused(tmp_path / ("x" * 300))


def test_the_parent_of_trainings_names_them(tmp_path: Path) -> None:
    write(tmp_path / "one/trainer_state.json", state(1))
    write(tmp_path / "two/adapter_config.json", ADAPTER)
    write(tmp_path / "three/other.json", {})
    assert refused(tmp_path).endswith("one, two")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "not complete"), (json.dumps(state(3))[:100], "not complete"), ("{'a': 1}", "not complete"), ("[1, 2]", "no JSON object"),
        ("null", "no JSON object"), ("[" * 100_000, "not complete"), ('{"global_step": ' + "9" * 5000 + "}", "not complete"),
    ],
)  # fmt: skip
def test_json_that_is_none_or_half_is_one_sentence(text: str, word: str, tmp_path: Path) -> None:
    file = write(tmp_path / "trainer_state.json", text)
    said = refused(tmp_path)
    assert word in said
    assert str(file) in said
    write(tmp_path / "adapter_config.json", ADAPTER)
    assert [word in problem.text() for problem in open_folder(tmp_path).problems] == [True], "the rest still opens"


def test_bytes_that_are_no_text_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_bytes(b'\xff\xfe\x00{"a"')
    assert "not complete" in refused(tmp_path)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    for name in ("trainer_state.json", "trainer_log.jsonl"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(MOST_BYTES + 1)
        assert f"{name} is larger than 32.00 MiB" in refused(tmp_path)
        (tmp_path / name).unlink()


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "trainer_state.json")
    assert "trainer_state.json is a named pipe, not a file" in refused(tmp_path)


def test_a_folder_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "trainer_state.json", state(1))

    def forbidden(self: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", forbidden)
    assert "Permission denied" in refused(tmp_path)


def test_a_link_in_a_circle_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert refused(tmp_path / "loop")


# -------------------------------------------------------------------------------------- a copied run


def copied(tmp_path: Path, **changes: Any) -> RunStore:
    """A run that another machine trained, as it is after a copy."""
    run = make_run(
        tmp_path, config={"model_name": "org/m", "r": 4}, config_text="model_name: org/m\n", argv=None, name="shop"
    )
    gone = {"pid": 4711, "start_ticks": 1, "boot_id": "of another machine"}
    set_status(run, state="running", step=2, total_steps=9, trainer=gone, supervisor=gone, **changes)
    add_point(run, {"step": 1, "loss": 2.0})
    add_point(run, {"step": 2, "loss": 1.0, "eval_loss": 1.5})
    return run


def test_a_run_copied_from_another_machine_is_lost_and_has_its_curves(tmp_path: Path) -> None:
    run = copied(tmp_path)
    write(run.checkpoints / "checkpoint-2/adapter_config.json", ADAPTER)
    before = listing(tmp_path)
    found = open_folder(run.path)
    assert found.run
    assert found.state
    assert found.state.state == "lost"
    assert (found.title, found.base_model, found.step, found.total_steps) == ("shop", "org/m", 2, 9)
    assert points(found.columns, "loss")[1].tolist() == [2.0, 1.0]
    assert found.adapter == run.checkpoints / "checkpoint-2"
    assert listing(tmp_path) == before


def test_a_run_of_a_newer_version_or_half_a_copy_is_one_sentence(tmp_path: Path) -> None:
    run = copied(tmp_path)
    run.run_json.write_text('{"format": 99}')
    assert "newer version" in refused(run.path)
    run.run_json.write_text('{"format": 1, "con')
    assert "not complete" in refused(run.path)


# ------------------------------------------------------------------------------------------ anything at all

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["nan", "Infinity", "-1", "\ud800"]),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)
ROWS = st.lists(
    ANYTHING
    | st.dictionaries(
        st.sampled_from([*COLUMNS, "current_steps", "total_steps", "lr", "train_runtime"]), ANYTHING, max_size=8
    ),
    max_size=10,
)
STATES = ANYTHING | st.fixed_dictionaries(
    {},
    optional={
        "log_history": ROWS | ANYTHING,
        **dict.fromkeys(
            ("global_step", "max_steps", "epoch", "best_metric", "best_global_step", "best_model_checkpoint"), ANYTHING
        ),
    },
)
RUNS = ANYTHING | st.fixed_dictionaries(
    {"config": st.dictionaries(st.sampled_from(["model_name", "r"]), ANYTHING)},
    optional={"name": ANYTHING, "actor": ANYTHING, "created_at": ANYTHING},
)
STATUSES = ANYTHING | st.dictionaries(
    st.sampled_from(["state", "step", "total_steps", "epoch", "started_at", "ended_at", "message", "trainer", "launched"]), ANYTHING
)  # fmt: skip
HOSTILE = hypothesis_settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@HOSTILE
@given(top=STATES, below=STATES, adapter=ANYTHING, log=ROWS)
def test_whatever_the_files_hold_it_opens_or_is_one_sentence(
    top: object, below: object, adapter: object, log: list[object], tmp_path: Path
) -> None:
    write(tmp_path / "trainer_state.json", json.dumps(top))
    write(tmp_path / "checkpoint-3/trainer_state.json", json.dumps(below))
    write(tmp_path / "adapter_config.json", json.dumps(adapter))
    write(tmp_path / "trainer_log.jsonl", "".join(json.dumps(row) + "\n" for row in log))
    try:
        found = open_folder(tmp_path)
    except RunError as error:
        str(error).encode()
        return
    assert all(column.dtype == np.float64 for column in found.columns.values())
    for name in COLUMNS:
        assert np.isfinite(points(found.columns, name)[1]).all()
    assert found.step is None or 0 <= found.step < 2**53
    for text in (found.title, found.base_model or "", found.best_checkpoint or "", *(p.text() for p in found.problems)):
        text.encode()


@HOSTILE
@given(data=st.binary(max_size=200))
def test_any_bytes_open_or_are_one_sentence(data: bytes, tmp_path: Path) -> None:
    for name in ("trainer_state.json", "trainer_log.jsonl", "adapter_config.json"):
        (tmp_path / name).write_bytes(data)
    try:
        open_folder(tmp_path)
    except RunError as error:
        str(error).encode()


@HOSTILE
@given(about=RUNS, status=STATUSES, ended=st.none() | STATUSES)
def test_whatever_a_copied_run_holds_it_opens_or_is_one_sentence(
    about: object, status: object, ended: object, tmp_path: Path
) -> None:
    for name, data in (("run.json", about), ("status.json", status), ("exit.json", ended)):
        write(tmp_path / name, json.dumps(data))
    try:
        found = open_folder(tmp_path)
    except RunError as error:
        str(error).encode()
        return
    found.title.encode()
    assert found.state


def test_a_large_state_is_read_once_by_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    call = outside.call

    def counted(function: str, *arguments: object) -> object:
        calls.append(arguments)
        return call(function, *arguments)

    monkeypatch.setattr(outside, "call", counted)
    rows = [{"step": step, "loss": 1 / step, "epoch": step / 100, "learning_rate": 1e-4} for step in range(1, 15_001)]
    data = {"global_step": 15_000, "max_steps": 20_000, "log_history": [*rows, {"step": 15_000, "train_runtime": 9.5}]}
    (tmp_path / "trainer_state.json").write_text(json.dumps(data))
    (tmp_path / "trainer_log.jsonl").write_text(
        "".join(
            json.dumps({"current_steps": row["step"], "loss": 2.0, "epoch": 0.5, "lr": 1e-4}) + "\n" for row in rows
        )
    )
    for _ in range(2):
        found = open_folder(tmp_path)
        assert (found.step, found.total_steps, found.runtime_s, found.source) == (
            15_000,
            20_000,
            9.5,
            tmp_path / "trainer_state.json",
        )
        assert found.columns["loss"][:3].tolist() == [1.0, 1 / 2, 1 / 3]
        assert np.isnan(found.columns["grad_norm"]).all()
    log = tmp_path / "trainer_log.jsonl"
    assert log.stat().st_size < INLINE_BYTES
    assert len(calls) == 1
    (tmp_path / "trainer_state.json").write_text('{"a": "' + "x" * INLINE_BYTES)
    assert any("not complete JSON" in problem.text("en") for problem in open_folder(tmp_path).problems)
    assert len(calls) == 2
