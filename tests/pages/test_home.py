"""Home: the demo before there was a run; then what runs, what waits and what came of the last ones."""

from __future__ import annotations

import os

import pytest

from lora_backend.demo.demo_run import DEMO_NAME
from lora_backend.installation import this_installation
from lora_backend.runs.history.run_table import History, RunRow
from lora_backend.runs.processes.leases import release, take
from lora_backend.runs.processes.queue import start_or_queue
from lora_backend.runs.processes.waiting import leases_folder
from lora_backend.runs.record.process_identity import identify
from tests.pages.screens import show, texts
from tests.run_files import add_point, add_start, end_run, make_run, put_answers, set_status

pytestmark = pytest.mark.usefixtures("places")


def test_before_the_first_run_the_demo_is_the_one_main_act() -> None:
    at = show("home")
    assert at.button(key="start_demo").proto.type == "primary"
    assert "See it work" in texts(at)
    assert "minutes" not in texts(at), "nothing is promised that was not measured"


def test_what_runs_waits_and_ended_leads_and_the_demo_is_one_quiet_line() -> None:
    runs, workspace, mine = this_installation().runs, this_installation().workspace, identify(os.getpid())
    assert mine
    done = make_run(runs, config={"model_name": "m"}, config_text="", argv=["true"], name="done")
    for step, loss in ((1, 2.0), (2, 0.5)):
        add_point(done, {"step": step, "loss": loss, "time": step})
    put_answers(done, [{"question": "?", "base_correct": False, "adapter_correct": True}])
    end_run(done, "finished")
    going = make_run(runs, config={"model_name": "m"}, config_text="", argv=["true"], name="going")
    processes = {"trainer": mine.to_json(), "supervisor": mine.to_json()}
    set_status(going, state="running", stage="training", step=21, total_steps=50, eta_s=90.0, **processes)
    add_point(going, {"step": 21, "loss": 1.5, "time": 1.0})
    leases = take(leases_folder(workspace), ["cpu"], going.path)
    assert leases
    waits = make_run(runs, config={"model_name": "m"}, config_text="", argv=["true"], state="queued", name="waits")
    add_start(waits, device_uuids=[])
    start_or_queue(waits, workspace)
    at = show("home")
    said = texts(at)
    (bar,) = [one.proto.text for one in at.get("progress") if "Step 21 of 50" in one.proto.text]
    assert "42%" in bar
    assert "loss 1.5 → 1.5" in bar
    assert "s, after going." in said
    assert "1 of 1 answer right" in said
    assert [one.value for one in at.header] == ["Running", "Queue", "Last results"]
    assert [link.proto.label for link in at.get("page_link") if "**" in link.proto.label] == ["**going**", "**waits**", "**done**"]  # fmt: skip
    assert [one.key for one in at.button if one.proto.type == "primary"] == ["train_your_own"]
    assert at.button(key="start_demo").proto.type == "secondary"
    release(leases)


def test_a_demo_that_ends_while_home_is_drawn_can_be_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = identify(os.getpid())
    assert mine
    demo = make_run(this_installation().runs, config={}, config_text="", argv=["true"], name=DEMO_NAME)
    set_status(demo, state="running", trainer=mine.to_json(), supervisor=mine.to_json())
    read = History.rows

    def ends_then(history: History) -> list[RunRow]:
        found = read(history)
        monkeypatch.setattr(History, "rows", read)
        end_run(demo, "finished")
        return found

    monkeypatch.setattr(History, "rows", ends_then)
    assert "start_demo" in [button.key for button in show("home").button]
