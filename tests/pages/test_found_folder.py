"""The page of a folder that was not started here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.installation import this_installation
from lora_backend.runs.record.run_store import RunStore
from pages.parts.run import session
from pages.parts.shell import addresses
from tests.pages.english import ENGLISH, texts_of, without_code
from tests.pages.screens import ROOT, charts, finished_run, show, texts
from tests.run_files import add_point, make_run, set_status

pytestmark = pytest.mark.usefixtures("workspace")
KEY = "base_model.model.model.layers.{block}.self_attn.q_proj.lora_{half}.weight"


def save_adapter(folder: Path, rank: int = 4, **config: Any) -> Path:
    """A LoRA on two blocks, as PEFT saves one; only its header is read, so it is written by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(own | config))
    header: dict[str, Any] = {}
    end = 0
    for block in range(2):
        for half, shape in (("A", [rank, 8]), ("B", [8, rank])):
            begin, end = end, end + 4 * rank * 8
            header[KEY.format(block=block, half=half)] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    return folder


def output_folder(folder: Path, rows: list[object] | None = None, **changes: Any) -> Path:
    """An output folder of transformers' Trainer with an adapter and two checkpoints."""
    history: list[object] = [{"step": i, "epoch": i / 10, "loss": 4.0 / i, "learning_rate": 1e-4, "grad_norm": 1.0} for i in range(1, 21)]  # fmt: skip
    history += [{"step": 20, "epoch": 2.0, "eval_loss": 0.75}, {"step": 20, "train_runtime": 65.0, "train_loss": 1.0}]
    state = {
        "global_step": 20, "max_steps": 20, "epoch": 2.0, "best_metric": 0.75, "best_model_checkpoint": "/their/out/checkpoint-20",
        "log_history": history if rows is None else rows, **changes,
    }  # fmt: skip
    save_adapter(folder)
    (folder / "trainer_state.json").write_text(json.dumps(state))
    for step in (10, 20):
        save_adapter(folder / f"checkpoint-{step}")
    return folder


def tree(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in [folder, *folder.rglob("*")])


def test_a_trainers_output_folder_shows_figures_curves_ranks_and_checkpoints(workspace: Path) -> None:
    folder = output_folder(workspace / "outputs/shop")
    before = tree(folder)
    at = show("runs", folder=str(folder))
    assert at.title[0].value == "shop"
    shown = texts(at)
    assert "not started here" in shown
    assert {metric.label: metric.value for metric in at.metric} == {
        "Step": "20 / 20", "Epoch": "2", "Loss": "0.2", "Evaluation loss": "0.75", "Best metric": "0.75",
    }  # fmt: skip
    assert "org/base" in shown
    assert "took 1 min 5 s" in shown
    assert len(charts(at)) + len(at.get("plotly_chart")) == 4, (
        "loss, learning rate, gradient norm, and the heat map of the ranks"
    )
    assert any("2 of 2 LoRA layers have" in warning.value for warning in at.warning), "amber: the base is not here"
    assert "Not compared with org/base" in shown
    ranks, checkpoints = (frame.value for frame in at.dataframe)
    assert ranks["A"].tolist() == [4, 4]
    assert checkpoints["Checkpoint"].tolist() == ["checkpoint-20", "checkpoint-10"]
    assert checkpoints["Best"].tolist() == ["★", ""]
    assert checkpoints["Ranks"][0].startswith("/verify?adapter=%2F")
    assert not [button.label for button in at.button if button.label in ("Stop", "Resume", "Delete")]
    assert tree(folder) == before


def test_a_relative_path_counts_from_the_workspace(workspace: Path) -> None:
    output_folder(workspace / "outputs/shop")
    assert show("runs", folder="outputs/shop").title[0].value == "shop"


def test_the_list_of_runs_leads_to_the_folder_by_its_own_address(workspace: Path) -> None:
    output_folder(workspace / "outputs/shop")
    at = show("runs")
    at.text_input(key=session.FOLDER_NAME).set_value(" outputs/shop ")
    next(button for button in at.button if button.label == "Open the folder").click().run()
    assert not at.exception
    assert at.query_params[addresses.FOLDER] == "outputs/shop"
    assert at.title[0].value == "shop"


@pytest.mark.parametrize(
    "name",
    ["/etc", "../..", "outputs/../../../etc", "~", "~nobody-at-all/x", "out\0put", "x" * 5000, "outputs/way-out"],
)
def test_a_folder_outside_the_roots_is_refused_before_it_is_read(
    name: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHTDECK_MODEL_ROOTS", "")
    output_folder(workspace.parent / "elsewhere")
    (workspace / "outputs").mkdir(parents=True)
    (workspace / "outputs/way-out").symlink_to(workspace.parent / "elsewhere")
    at = show("runs", folder=name)
    assert "outside the folders that the browser may use" in at.warning[0].value
    assert not at.metric
    assert at.text_input(key=session.FOLDER_NAME).value == name, "to be corrected"


def test_what_is_no_training_is_one_sentence(workspace: Path) -> None:
    (workspace / "plain").mkdir(parents=True)
    (workspace / "half").mkdir()
    (workspace / "half/trainer_state.json").write_text('{"global_step": 3, "log_hi')
    for name, words in (("plain", "no training"), ("none", "no folder"), ("half", "not complete")):
        at = show("runs", folder=name)
        assert [words in warning.value for warning in at.warning] == [True]


def test_names_with_markup_are_shown_as_text(workspace: Path) -> None:
    name = "<b>out</b> ![x](http://example.org/p.png)"
    folder = workspace / "x" / name.replace("/", "_")
    output_folder(folder, best_model_checkpoint="<i>best</i>")
    save_adapter(folder, base_model_name_or_path="<script>alert(1)</script> [a](http://example.org)")
    at = show("runs", folder=str(folder))
    shown = texts(at)
    assert not re.search(r"(?<!\\)[<\[]|https?://", re.sub(r":(gray-badge|orange)\[", "", shown))
    assert "\\<script>" in shown
    at = show("runs", folder=f"x/![x](http:__example.org)<b>{'y' * 9}")
    assert "![x](" not in at.warning[0].value


def test_nan_missing_steps_and_a_broken_adapter_do_not_break_the_page(workspace: Path) -> None:
    rows: list[object] = [
        {"step": 1, "loss": float("nan"), "grad_norm": "nan"}, {"loss": 3.0}, {"step": 9, "loss": 2.0, "grad_norm": float("inf")},
        {"step": 12, "eval_loss": float("-inf")}, {"step": 15, "loss": 1.0, "learning_rate": 1e-3}, "text", None,
    ]  # fmt: skip
    folder = output_folder(workspace / "out", rows, best_metric=float("nan"), epoch="x", max_steps=-1)
    (folder / "adapter_model.safetensors").write_bytes(b"\xff" * 20)
    at = show("runs", folder="out")
    figures = {metric.label: metric.value for metric in at.metric}
    assert figures == {"Step": "20", "Loss": "1"}
    loss = charts(at)[0]["data"]
    assert [line["name"] for line in loss] == ["Loss"]
    assert "NaN" not in json.dumps(loss)
    assert len(charts(at)) == 2, "no evaluation, no norm that is a number"
    assert "damaged" in at.error[0].value


def test_every_point_missing_says_so(workspace: Path) -> None:
    output_folder(workspace / "out", [{"step": 1, "loss": float("nan")}])
    at = show("runs", folder="out")
    assert any("no record of the loss" in info.value for info in at.info)


def copied_run(folder: Path) -> RunStore:
    """A run that another machine trained."""
    run = make_run(
        folder.parent,
        config={"model_name": "org/m", "r": 4, "target_modules": ["q_proj"]},
        config_text="model_name: org/m  # theirs\n",
        argv=None,
        path=folder,
        name="<u>theirs</u>",
        actor="_bob_",
    )
    gone = {"pid": 4711, "start_ticks": 1, "boot_id": "of another machine"}
    set_status(run, state="running", step=2, total_steps=9, trainer=gone, supervisor=gone)
    add_point(run, {"step": 2, "loss": 1.0})
    run.train_log.write_text("their log\n")
    save_adapter(run.checkpoints / "checkpoint-2", rank=2)
    return run


def test_a_run_copied_from_another_machine_opens_read_only(workspace: Path) -> None:
    run = copied_run(workspace / "inbox/20200101-000000-beef")
    before = tree(run.path)
    at = show("runs", folder="inbox/20200101-000000-beef")
    shown = texts(at)
    assert "copied here" in shown
    assert not re.search(r"(?<!\\)<", shown)
    assert "Lost" in shown
    assert "# theirs" in shown
    assert "their log" in shown
    assert any("2 of 2 LoRA layers have the wrong rank" in error.value for error in at.error), (
        "held against the run's config"
    )
    assert tree(run.path) == before


def test_a_copied_log_of_one_long_line_shows_its_end_alone(workspace: Path) -> None:
    run = copied_run(workspace / "inbox/one")
    run.train_log.write_bytes(b"x" * 5_000_000 + b"\xff")
    log = show("runs", folder="inbox/one").code[-1].value
    assert log.startswith("xxx")
    assert len(log) < 50_000


def test_a_run_of_this_workspace_leads_to_its_own_page() -> None:
    run = finished_run()
    at = show("runs", folder=str(this_installation().runs / run.id))
    assert any("run of this workspace" in info.value for info in at.info)


def test_a_run_of_a_newer_version_is_one_sentence(workspace: Path) -> None:
    run = copied_run(workspace / "inbox/one")
    run.run_json.write_text('{"format": 99, "config": {}}')
    assert "newer version" in show("runs", folder="inbox/one").warning[0].value


@pytest.mark.parametrize("name", ["out", "inbox/one", "none", "", "plain"])
def test_the_page_speaks_chinese(name: str, workspace: Path) -> None:
    output_folder(workspace / "out")
    copied_run(workspace / "inbox/one")
    (workspace / "plain").mkdir()
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    at.query_params["lang"] = "zh"
    at.run().switch_page("pages/runs.py")
    if name:
        at.query_params["folder"] = name
    at.run()
    assert not at.exception
    assert [text for text in texts_of(at) if ENGLISH.search(without_code(text))] == []
