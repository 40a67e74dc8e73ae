"""One run's page: what it says of a run in each state, and what can be done with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.config.check import check_config
from lora_backend.config.drafts import list_drafts
from lora_backend.errors import ModelError
from lora_backend.hardware.inventory import Gpu, GpuInventory
from lora_backend.i18n import Message
from lora_backend.installation import this_installation
from lora_backend.launching.requests import StartOptions
from lora_backend.planning.verdict import Verdict
from lora_backend.preflight.placement import DoesNotFitError, PlanDoubtError, TightError
from lora_backend.preflight.plan_vs_measured import COMPONENTS, Comparison
from lora_backend.runs.checkpoints.manifest import write_manifest
from lora_backend.runs.history.usage import GpuUsage, Usage
from lora_backend.runs.processes.leases import release, take
from lora_backend.runs.processes.queue import start_or_queue
from lora_backend.runs.processes.waiting import leases_folder
from lora_backend.runs.record.documents import Labels
from lora_backend.runs.record.failures import failure
from lora_backend.runs.record.process_identity import identify
from lora_backend.runs.record.run_labels import read_labels, write_labels
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from pages.parts.run import actions as run_actions
from pages.parts.run import go_on, job_page
from pages.parts.run import memory as memory_view
from pages.parts.run import resume as run_resume
from pages.parts.run import usage as usage_view
from pages.parts.run import view as run_view
from tests.pages.screens import show, texts
from tests.run_files import add_point, add_start, end_run, make_run, record_of, set_attempt, set_status
from tests.tiny import chats, write_rows

LOG = """\
2026-01-01 10:00:00,000 INFO lora_backend.training: step 1
2026-01-01 10:00:01,000 ERROR lora_backend.training: the run failed
Traceback (most recent call last):
ValueError: no
"""


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, place in (("WORKSPACE", "ws"), ("HOME", "home"), ("MODEL_ROOTS", ""), ("DATA_ROOTS", "")):
        monkeypatch.setenv(f"FLIGHTDECK_{name}", str(tmp_path / place))


def made(state: str | None, cause: str | None = None, argv: list[str] | None = None, **config: Any) -> RunStore:
    values = {"model_name": "m", "num_epochs": 1, **config}
    text = "# mine\n" + "".join(f"{key}: {value}\n" for key, value in values.items())
    run = make_run(this_installation().runs, config=values, config_text=text, argv=argv or ["true"])
    if state:
        found = failure(cause) if cause else None
        more: dict[str, Any] = {"remedy": found.remedy, "log": ["the last line"]} if found else {}
        end_run(run, state, cause=cause, message=found.message if found else None, **more)
    return run


def press(at: AppTest, key: str) -> AppTest:
    at.button(key=key).click().run()
    assert not at.exception, at.exception
    return at


@pytest.mark.parametrize("state", ["stopped", "failed", "lost"])
def test_a_run_that_was_not_done_can_be_resumed_and_one_that_was_can_train_on(state: str) -> None:
    assert show("runs", run=made(state).id).button(key="resume_run")
    run = made("finished")
    keys = [button.key for button in show("runs", run=run.id).button]
    assert "resume_run" not in keys
    at = show("runs", run=run.id)
    for text, can_start in (("num_epochs: 2", True), ("save_steps: 50", False), ("max_steps: 0", False)):
        at.text_area(key=f"changes-{run.id}").set_value(text).run()
        assert at.button(key="resume_changed").disabled != can_start


def test_what_a_change_would_do_is_said_before_it_is_made() -> None:
    run = made("stopped")
    at = show("runs", run=run.id)
    at.text_area(key=f"changes-{run.id}").set_value("max_time: 2\nnum_epochs: 3").run()
    shown = texts(at)
    assert "`max_time` :green[✓ safe]" in shown
    assert "`num_epochs` :orange[↻ the schedule is recomputed]" in shown
    assert not at.button(key="resume_changed").disabled
    at.text_area(key=f"changes-{run.id}").set_value("r: 64").run()
    assert any("`r`" in error.value for error in at.error)
    assert at.button(key="resume_changed").disabled
    at.text_area(key=f"changes-{run.id}").set_value("num_epochs: 1").run()
    assert at.button(key="resume_changed").disabled, "nothing changes"


def test_a_change_that_is_an_error_is_refused_with_its_remedy() -> None:
    run = made("stopped")
    (error,) = check_config({"model_name": "m", "num_epochs": "many"}).errors
    at = show("runs", run=run.id)
    at.text_area(key=f"changes-{run.id}").set_value("num_epochs: many").run()
    (shown,) = [one.value.replace("\\", "") for one in at.error]
    assert str(error.message) in shown
    assert str(error.remedy) in shown
    assert at.button(key="resume_changed").disabled


def test_changed_data_is_asked_for_before_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_rows(tmp_path / "d.jsonl", chats(1))
    run = made("stopped", dataset=str(data))
    run.run_json.write_text(json.dumps(record_of(run) | {"data_sha256": "0" * 64}))
    at = show("runs", run=run.id)
    assert "resume_changed_data" not in [button.key for button in at.button]
    at = press(at, "resume_run")
    assert any("has changed since the run was launched" in warning.value for warning in at.warning)
    assert run.state().state == "stopped"
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(
        go_on, "resume_run", lambda _, __, options, count, **how: asked.append({"accepts": options.accepts, **how})
    )
    press(at, "resume_changed_data")
    assert asked == [{"accepts": "fits", "accept_changed_data": True}]


def test_a_run_that_was_copied_here_reads_nothing_outside_the_roots(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "d.jsonl", chats(1))
    outside = "is outside the folders that the browser may use"
    for is_copied in (False, True):
        run = made("stopped", dataset="/etc/hostname", model_name=str(data.parent))
        if is_copied:
            run.run_json.write_text(json.dumps(record_of(run) | {"argv_seal": None}))
        at = press(show("runs", run=run.id), "resume_run")
        assert any(outside in error.value for error in at.error) is is_copied
        assert run.state().state == "stopped"


def test_a_checkpoint_that_was_passed_over_is_named_with_the_file_that_was_not_loaded() -> None:
    run = made("stopped")
    damaged = [{"checkpoint": "checkpoint-20", "problems": ["optimizer.pt: damaged or unsafe", "x.pt: missing"]}]
    add_start(run, passed_over=damaged, resume_from="checkpoint-10")
    (said,) = [warning.value for warning in show("runs", run=run.id).warning if "checkpoint-20" in warning.value]
    assert "optimizer.pt of checkpoint-20 is damaged or unsafe and was not loaded." in said.replace("\\", "")
    assert "continues from checkpoint-10" in said.replace("\\", "")
    values: list[Any] = ["x", [1], [{}], [{"checkpoint": 1, "problems": 2}], {"a": 1}]
    for value in values:
        set_attempt(run, passed_over=value)
        show("runs", run=run.id)


def test_a_run_that_ended_for_its_changed_data_offers_to_go_on_with_it() -> None:
    run = made(None)
    end_run(run, "failed", cause="data_changed", message=Message("It has changed."))
    assert show("runs", run=run.id).button(key="resume_changed_data")


def test_a_run_becomes_a_draft_with_its_comments_and_what_later_starts_changed() -> None:
    run = made("stopped", seed=7)
    add_start(run, changes={"max_time": 2.0})
    at = press(show("runs", run=run.id), "clone_run")
    (draft,) = list_drafts(this_installation().drafts)
    assert "# mine" in draft.text()
    assert "seed: 7" in draft.text()
    assert "max_time: 2" in draft.text()
    assert at.query_params["draft"] == draft.id
    assert at.query_params["base"] == f"run:{run.id}", "compared with the run that it came from"


def test_a_failure_comes_with_its_last_log_lines_and_out_of_memory_with_the_planners_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = made("failed", "gpu_out_of_memory")
    at = show("runs", run=run.id)
    assert any("The GPU ran out of memory." in error.value for error in at.error)
    assert any("the last line" in code.value for code in at.code)

    def no_plan(*_: object) -> None:
        raise ModelError("no model here")

    monkeypatch.setattr(run_resume, "remedies", no_plan)
    assert any("no model here" in error.value for error in press(at, "ask_planner").error)
    assert "ask_planner" not in [button.key for button in show("runs", run=made("failed", "disk_full").id).button]


def test_the_log_is_searched_and_filtered_and_walked_through() -> None:
    run = made("failed")
    run.train_log.write_text("old line\n" * 20_000 + LOG)
    at = show("runs", run=run.id)
    assert at.code[0].value.endswith("ValueError: no")
    at.segmented_control(key=f"log-level-{run.id}").set_value("ERROR").run()
    assert at.code[0].value.splitlines()[0].endswith("the run failed")
    assert "1 record found" in texts(at)
    at.text_input(key=f"log-words-{run.id}").set_value("nowhere").run()
    assert at.code[0].value == "Nothing in the log matches."
    at.text_input(key=f"log-words-{run.id}").set_value("")
    at.segmented_control(key=f"log-level-{run.id}").set_value("DEBUG").run()
    older = press(at, "log_older").code[0].value
    assert set(older.splitlines()) == {"old line"}
    assert press(at, "log_newest").code[0].value.endswith("ValueError: no")


def test_tags_a_note_and_a_pin_are_kept_from_the_page() -> None:
    run = made("finished")
    at = show("runs", run=run.id)
    at.text_area(key=f"note-{run.id}").set_value("the <b>good</b> one").run()
    at.toggle(key=f"pinned-{run.id}").set_value(True).run()
    assert read_labels(run.path) == Labels(note="the <b>good</b> one", pinned=True)


def test_a_loss_that_rises_is_an_alert_while_the_run_goes_on_and_its_end_is_said_once() -> None:
    run = made(None)
    for step in range(1, 120):
        loss = 2 - step / 60 if step < 60 else 1 + (step - 60) / 10
        add_point(run, {"step": step, "loss": loss, "learning_rate": 1, "grad_norm": 1, "time": step})
    at = show("runs", run=run.id)
    assert any("The loss is 6.8, 3.4 × its start" in warning.value for warning in at.warning)
    end_run(run, "finished")
    at.run()
    assert not at.warning
    assert any("far above it since step" in error.value for error in at.error)
    assert [toast.value for toast in at.toast] == ["Finished, loss 3.4 × its start"]
    at.run()
    assert not at.toast


@pytest.mark.parametrize(
    ("cause", "is_open"), [("nan_loss", False), ("config", False), ("crashed", True), ("code", True)]
)
def test_the_logs_end_stands_open_where_only_it_tells_why(cause: str, is_open: bool) -> None:
    run = made(None)
    end_run(run, "failed", cause=cause, message=Message("x"), log=["Traceback (most recent call last):"])
    (log,) = [one for one in show("runs", run=run.id).expander if one.label == "The log's last lines"]
    assert log.proto.expanded == is_open


@pytest.mark.parametrize(
    ("losses", "grad_norm", "word"),
    [
        ([2.1, 30.0, 18.9], 1.0, "Finished, loss 9 × its start"),
        ([2.1, 3.4012, 3.4012], 0.0, "Finished, dead: it is not learning"),
    ],
)
def test_a_finished_run_that_did_not_learn_is_nowhere_a_plain_green_finished(
    losses: list[float], grad_norm: float, word: str
) -> None:
    run = made(None)
    for step, loss in enumerate(losses, 1):
        add_point(run, {"step": step, "loss": loss, "grad_norm": grad_norm, "time": step})
    end_run(run, "finished")
    for at in (show("runs", run=run.id), show("home")):
        badges = [badge.value for badge in at.markdown if "badge" in badge.value]
        assert any(word in badge and ":red-badge" in badge for badge in badges), badges
        assert not any("green-badge" in badge for badge in badges)
    table = show("runs").dataframe[0]
    assert word in table.value["State"].tolist()
    assert json.loads(table.proto.columns)["State"]["width"] >= 7 * len(word), "nothing of it is cut off"


def test_a_run_that_ends_well_is_said_to_have_finished() -> None:
    run = made(None)
    add_point(run, {"step": 1, "loss": 2.0, "grad_norm": 1.0, "time": 1})
    at = show("runs", run=run.id)
    end_run(run, "finished")
    assert [toast.value for toast in at.run().toast] == ["The run has finished."]
    assert not at.error


def test_a_queued_run_says_who_is_before_it_and_can_be_taken_out() -> None:
    workspace = this_installation().workspace
    leases = take(leases_folder(workspace), ["cpu"], this_installation().runs / "somebody")
    assert leases
    values = {"model_name": "m"}
    run = make_run(this_installation().runs, config=values, config_text="", argv=["true"], state="queued")
    add_start(run, device_uuids=[])
    start_or_queue(run, workspace)
    at = show("runs", run=run.id)
    assert any("somebody has its device." in info.value for info in at.info)
    assert "starting Python" not in texts(at), "nothing is started yet"
    press(at, "cancel_run")
    assert run.state().cause == "cancelled"
    release(leases)


def test_a_move_to_gpus_where_the_plan_is_tight_asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = tuple(Gpu(index, f"GPU-{index}", "A", 2**34, 0, (8, 0)) for index in range(2))
    monkeypatch.setattr(run_actions, "read_gpus", lambda: GpuInventory(gpus))
    asked: list[Verdict] = []

    def move(*_: Any, accepts: Verdict) -> None:
        asked.append(accepts)
        if accepts == "fits":
            raise TightError(Message("Tight: 1 GiB would be left."))

    monkeypatch.setattr(run_actions, "move_run", move)
    run = make_run(this_installation().runs, config={"model_name": "m"}, config_text="", argv=["true"], state="queued")
    add_start(run, device_uuids=["GPU-0"])
    at = show("runs", run=run.id)
    at.multiselect(key=f"gpus-{run.id}").set_value(["GPU-1"]).run()
    press(at, "move_run")
    assert any("Tight: 1 GiB" in warning.value for warning in at.warning)
    press(at, "move_anyway")
    assert asked == ["fits", "tight"]


@pytest.mark.parametrize("refusal", [TightError, DoesNotFitError])
def test_a_resume_whose_plan_is_in_doubt_asks_once(
    refusal: type[PlanDoubtError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any, __: Any, options: StartOptions, **___: Any) -> None:
        asked.append(options.accepts)
        if options.accepts == "fits":
            raise refusal(Message("It does not fit: 1 GiB too much."))

    asked: list[Verdict] = []
    monkeypatch.setattr(go_on, "resume_run", refuse)
    at = press(show("runs", run=made("stopped").id), "resume_run")
    assert any("does not fit" in warning.value for warning in at.warning)
    press(at, "resume_anyway")
    assert asked == ["fits", refusal.verdict]


def test_paths_of_changed_settings_are_bound_to_the_roots_as_those_of_a_launch_are(tmp_path: Path) -> None:
    run = made("stopped")
    at = show("runs", run=run.id)
    for text in ("output_dir: /tmp/elsewhere", "questions: /etc/passwd"):
        at.text_area(key=f"changes-{run.id}").set_value(text).run()
        assert not at.exception
        assert at.button(key="resume_changed").disabled
        assert len(at.error) == 1


def test_settings_that_cannot_be_read_are_not_resumed_with() -> None:
    run = made("stopped")
    at = show("runs", run=run.id)
    at.text_area(key=f"changes-{run.id}").set_value("save_steps: 50\nsave_steps: 60").run()
    assert at.button
    assert "resume_changed" not in [button.key for button in at.button if not button.disabled]
    assert at.error


@pytest.mark.parametrize(
    "tab", ["It ended before its first step was logged.", "It ended before its ranks were checked"]
)
def test_an_ended_run_promises_nothing(tab: str) -> None:
    at = show("runs", run=made("failed").id)
    assert any(tab in info.value for info in at.info)
    assert not any("comes with the first step" in info.value for info in at.info)


def test_a_note_of_another_tab_is_kept_above_this_ones() -> None:
    run = made("finished")
    one, two = show("runs", run=run.id), show("runs", run=run.id)
    one.text_area(key=f"note-{run.id}").set_value("first").run()
    two.text_area(key=f"note-{run.id}").set_value("second").run()
    assert read_labels(run.path).note == "first\nsecond"
    assert two.text_area(key=f"note-{run.id}").value == "first\nsecond"
    two.text_area(key=f"note-{run.id}").set_value("third").run()
    assert read_labels(run.path).note == "third"


def test_a_note_of_another_tab_is_kept_where_this_one_was_drawn_anew_meanwhile() -> None:
    run = made("finished")
    one, two = show("runs", run=run.id), show("runs", run=run.id)
    one.text_area(key=f"note-{run.id}").set_value("first").run()
    two.run()  # as a run that goes on does every two seconds; the field stays as it was
    two.text_area(key=f"note-{run.id}").set_value("second").run()
    assert read_labels(run.path).note == "first\nsecond"


def test_a_tag_that_is_not_kept_is_not_shown_either() -> None:
    run = made("finished")
    tags = [f"tag{number}" for number in range(20)]
    write_labels(run.path, tags=tags)
    at = show("runs", run=run.id)
    field = at.multiselect(key=f"tags-{run.id}")
    field.set_value([*tags, "new"]).run()
    assert "up to 20 tags" in at.toast[0].value
    assert at.multiselect(key=f"tags-{run.id}").value == tags
    at.multiselect(key=f"tags-{run.id}").set_value([*tags[1:], "new"]).run()
    assert read_labels(run.path).tags == [*tags[1:], "new"]


def test_a_tag_that_was_typed_with_spaces_can_be_taken_away_again() -> None:
    run = made("finished")
    at = show("runs", run=run.id)
    for tags, kept in (([" x ", "y"], ("x", "y")), (["y"], ("y",))):
        at.multiselect(key=f"tags-{run.id}").set_value(tags).run()
        assert read_labels(run.path).tags == list(kept)


def living(stage: str | None, **config: Any) -> RunStore:
    """A run whose trainer and supervisor are this process."""
    run, mine = made(None, **config), identify(os.getpid())
    assert mine
    set_status(run, state="running", stage=stage, trainer=mine.to_json(), supervisor=mine.to_json())
    return run


STOP, SAVE = "Save and stop", "Save a checkpoint now"


@pytest.mark.parametrize(
    ("stage", "config", "offered"),
    [
        (None, {}, ["Stop"]),
        ("loading", {}, ["Stop"]),
        ("first_step", {}, [STOP, SAVE]),
        ("training", {}, [STOP, SAVE]),
        ("saving", {}, []),
        ("saving", {"questions": "q.jsonl"}, ["Skip the remaining answers"]),
        ("answering", {"questions": "q.jsonl"}, ["Skip the remaining answers"]),
    ],
)
def test_what_is_offered_is_what_can_still_happen(
    stage: str | None, config: dict[str, Any], offered: list[str]
) -> None:
    buttons = show("runs", run=living(stage, **config).id).button
    assert [button.label for button in buttons if button.key in ("save_run", "stop_run")] == offered


def checkpoint(run: RunStore, step: int) -> Path:
    path = run.checkpoints / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_bytes(b"x" * 2048)
    write_manifest(path, step)
    return path


def test_a_checkpoint_that_is_asked_for_is_answered_once() -> None:
    run = living("training")
    at = press(show("runs", run=run.id), "save_run")
    assert [toast.value for toast in at.toast] == ["Checkpoint requested. It is saved after the next step."]
    assert at.button(key="save_run").disabled
    assert not at.run().toast
    checkpoint(run, 7)
    run.save_request.unlink()
    assert [toast.value for toast in at.run().toast] == ["Checkpoint saved at step 7."]
    assert not at.button(key="save_run").disabled
    assert not at.run().toast


def test_a_checkpoint_that_came_too_late_is_not_said_to_be_there() -> None:
    run = living("training")
    os.utime(checkpoint(run, 1) / "manifest.json", (1e9, 1e9))
    at = press(show("runs", run=run.id), "save_run")
    run.save_request.unlink()
    set_status(run, stage="saving")
    assert [toast.value for toast in at.run().toast] == ["Training ended before the checkpoint was saved."]


def test_checkpoints_are_listed_with_their_losses_and_what_is_wrong_with_them() -> None:
    run = made("finished")
    for step in (1, 2, 3):
        add_point(run, {"step": step, "loss": 3.0 / step, "time": step})
        add_point(run, {"step": step, "eval_loss": 4.0 / step, "time": step})
        checkpoint(run, step)
    (run.checkpoints / "checkpoint-3/adapter_model.safetensors").write_bytes(b"x")
    same_size = run.checkpoints / "checkpoint-1/adapter_model.safetensors"
    same_size.write_bytes(b"y" * 2048)
    at = show("runs", run=run.id)
    table = at.dataframe[0].value
    assert table["Step"].tolist() == [3, 2, 1]
    assert table["Loss"].tolist() == ["1", "1.5", "3"]
    assert table["Evaluation loss"].tolist() == ["1.333 ★", "2", "4"]
    assert [text[0] for text in table["Files"]] == ["✗", "✓", "✓"]
    table = press(at, "check_checkpoints").dataframe[0].value
    assert table["Files"][1] == "✓ complete, every byte checked"
    assert "sha256 differs" in table["Files"][2]
    checkpoint(run, 4)
    assert at.run().dataframe[0].value["Files"].tolist()[2] == "✓ complete", "what was checked are others"


def test_a_run_goes_on_from_the_checkpoint_that_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    run = made("stopped")
    for step in (5, 8):
        (checkpoint(run, step) / "adapter").mkdir()
    asked: list[int | None] = []
    monkeypatch.setattr(go_on, "resume_run", lambda _, __, options, **___: asked.append(options.from_step))
    at = show("runs", run=run.id)
    assert at.selectbox(key=f"checkpoint-{run.id}").value == 8
    at.selectbox(key=f"checkpoint-{run.id}").set_value(5).run()
    press(at, "resume_checkpoint")
    assert asked == [5]
    press(at, "try_checkpoint")
    assert at.query_params["with"] == f"run:{run.id}/5"
    press(show("runs", run=run.id), "resume_run")
    assert asked == [5, None]


def test_a_finished_run_offers_its_adapter_first_and_trains_on_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    run, other = made("finished", num_epochs=2), made("stopped")
    run.adapter.mkdir()
    asked: list[Any] = []
    monkeypatch.setattr(go_on, "resume_run", lambda one, *_, **__: asked.append(dict(one.changes)))
    at = show("runs", run=run.id)
    primary = [button.label for button in at.button if button.proto.type == "primary"]
    assert primary[0] == "Try it"
    press(at, "train_longer")
    assert asked == [{"num_epochs": 4}]
    at = press(show("runs", run=run.id), "compare_both")
    assert at.query_params["compare"] == f"{run.id},{other.id}"
    press(show("runs", run=run.id), "verify_run")


def test_of_a_failed_run_the_cause_stands_before_the_way_on_and_the_log_has_five_lines() -> None:
    run = made(None)
    end_run(run, "failed", cause="crashed", message=Message("It crashed."), log=[f"line {n}" for n in range(30)])
    at = show("runs", run=run.id)
    assert next(button for button in at.button).key == "resume_run"
    assert at.code[0].value.splitlines() == [f"line {n}" for n in range(25, 30)]


MEASURED = {"step": 2, "rows": 4, "tokens": 12, "padded": False}


def test_the_memory_of_a_step_stands_beside_what_was_planned_for_that_step(monkeypatch: pytest.MonkeyPatch) -> None:
    run, gib = made("finished"), 2**30
    set_attempt(run, measured=MEASURED, changes={"batch_size": 2})
    asked: list[dict[str, Any]] = []
    parts = dict.fromkeys(COMPONENTS, 0)

    def compared(_: object, config: dict[str, Any], __: object) -> list[Comparison]:
        asked.append(config)
        return [Comparison("cpu", 4 * gib, parts | {"weights": 2 * gib}, parts | {"weights": gib}, 3 * gib)]

    monkeypatch.setattr(memory_view, "compare", compared)
    at = show("runs", run=run.id)
    shown = {metric.label: metric.value for metric in at.metric}
    assert shown["Planned for step 2"] == "2.00 GiB"
    assert shown["Measured in step 2"] == "1.00 GiB"
    assert shown["Difference"] == "+100.0%"
    assert "Planned at most, for the longest rows and with overhead: 4.00 GiB" in texts(at)
    assert asked[0]["batch_size"] == 2, "a resumed run is held against what it was resumed with"


def test_each_process_has_its_own_rows_and_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    run = made("finished")
    peers = [{**MEASURED, "rank": rank, "tokens": 12 + rank} for rank in range(2)]
    set_attempt(run, measured={**MEASURED, "peers": peers})
    parts = dict.fromkeys(COMPONENTS, 2**30)
    found = [Comparison("cpu", 2**34, parts, parts, 2**34, rank) for rank in range(2)]
    monkeypatch.setattr(memory_view, "compare", lambda *_: found)
    at = show("runs", run=run.id)
    for rank in range(2):
        assert f"**CPU, host memory · Process {rank}**" in texts(at)
        assert any(f"4 rows of {12 + rank} tokens" in caption.value for caption in at.caption)


@pytest.mark.parametrize(("kind", "module"), [("train", run_view), ("export", job_page)])
def test_an_end_on_an_open_page_is_drawn_once(kind: Any, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A button that is drawn again takes no click that was meant for the one before."""
    config = {"model_name": "m"} if kind == "train" else {"adapter": "/a", "to": "card"}
    run = make_run(this_installation().runs, config=config, config_text="", argv=["true"], kind=kind)
    recover, head, drawn = module.recover, module._head, []

    def ends_meanwhile(of: RunStore) -> RunState:
        found: RunState = recover(of)
        if not found.has_ended:
            end_run(run, "stopped")
        return found

    def draw(of: RunStore, *more: Any) -> None:
        drawn.append(next(one.state for one in more if isinstance(one, RunState)))
        head(of, *more)

    set_status(run, state="running", trainer=identify(os.getpid()).to_json())  # type: ignore[union-attr]
    monkeypatch.setattr(module, "recover", ends_meanwhile)
    monkeypatch.setattr(module, "_head", draw)
    at = show("runs", run=run.id)
    assert drawn == ["stopped"]
    assert not at.exception


@pytest.mark.parametrize(
    ("state", "said"), [(None, "show up here when training has ended"), ("finished", "expectation is unknown")]
)
def test_a_step_whose_rows_have_no_plan_yet_says_when_it_comes(
    state: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = living("training") if state is None else made(state)
    set_attempt(run, measured=MEASURED)
    found = Comparison("cpu", 2**30, None, dict.fromkeys(COMPONENTS, 0), None)
    monkeypatch.setattr(memory_view, "compare", lambda *_: [found])
    assert any(said in caption.value for caption in show("runs", run=run.id).caption)


def test_a_stop_says_when_it_ends_at_the_latest() -> None:
    run = living("training")
    at = press(show("runs", run=run.id), "stop_run")
    assert run.stop_request.exists()
    assert any("It will be ended at" in info.value for info in at.info)


def test_a_run_that_another_number_of_processes_goes_on_with_says_so() -> None:
    run = made("stopped")
    set_attempt(run, resume_note=Message("Written by 2 processes.").to_json())
    assert any("Written by 2 processes." in info.value for info in show("runs", run=run.id).info)


def test_what_a_finished_run_has_to_say_is_no_error() -> None:
    run = made(None)
    end_run(run, "finished", message=Message("The adapter is not published."))
    at = show("runs", run=run.id)
    assert any("not published" in info.value for info in at.info)
    assert not at.error


def test_the_gpus_of_a_running_run_are_shown_live_and_what_a_driver_does_not_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = Gpu(0, "GPU-a", "A", 2**34, 2**33, (8, 0), utilization=0.4, temperature_c=64, power_w=212.0)
    silent = Gpu(1, "GPU-b", "B", 2**34, 0, (8, 0))
    now = Usage((GpuUsage(told, 2**33, 2**32), GpuUsage(silent, None, None)), None, 1, 2)
    monkeypatch.setattr(usage_view, "usage", lambda _: now)
    at = show("runs", run=living("training").id)
    assert not at.exception
    shown = [
        (metric.label, metric.value) for metric in at.metric if metric.label in ("Utilization", "Temperature", "Power")
    ]
    assert shown[:3] == [("Utilization", "40%"), ("Temperature", "64 °C"), ("Power", "212 W")]
    assert [value for _, value in shown[3:]] == ["–"] * 3
    captions = [caption.value for caption in at.caption]
    assert any("4.00 GiB by the trainer · 4.00 GiB by others · ┃ planned at most 8.00 GiB" in one for one in captions)
    assert any("reports no utilization" in one for one in captions)
