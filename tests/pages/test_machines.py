"""A run of several machines on the pages: asked where they meet, told what to run on each, and gone on with."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.config.drafts import new_draft
from lora_backend.hardware.addresses import Address
from lora_backend.i18n import Message
from lora_backend.installation import this_installation
from lora_backend.launching import launch
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.peer_documents import MachineMeeting, PeerProcess
from lora_backend.runs.record.process_identity import identify
from lora_backend.runs.record.run_store import RunStore
from pages.parts.run import go_on
from tests.pages.plan_page import SMALL, profile_of
from tests.pages.screens import finished_run, show, texts
from tests.run_files import end_run, make_run, set_status
from tests.tiny import stub_model, write_rows

pytestmark = pytest.mark.usefixtures("places")
TWO = {"strategy": "ddp", "num_processes": 1, "num_nodes": 2}
HERE = (Address("eth0", "127.0.0.2"), Address("eth1", "127.0.0.3"))


@pytest.fixture(autouse=True)
def _addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pages.parts.widgets.meeting_fields", "lora_backend.launching.meeting"):
        monkeypatch.setattr(f"{module}.network_addresses", lambda: HERE)


def shown(at: AppTest) -> str:
    return texts(at).replace("\\", "")


# ------------------------------------------------------------------------------------------------- the launch


def test_a_draft_of_two_machines_asks_for_the_address_and_starts_the_first_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[Attempt] = []

    def start_run(request: object, path: object, argv: object, attempt: Attempt) -> RunStore:
        attempts.append(attempt)
        return finished_run()

    monkeypatch.setattr(launch, "start_run", start_run)
    monkeypatch.setattr("pages.parts.draft.launch.trace_within", lambda _: lambda _, config: profile_of(config))
    model, rows = stub_model(tmp_path / "small", SMALL), tmp_path / "rows.jsonl"
    write_rows(rows, [{"prompt": "a", "completion": "b"}] * 4)
    keys = "".join(f"{key}: {value}\n" for key, value in TWO.items())
    text = f"model_name: {model}\ndataset: {rows}\nbatch_size: 1\ntarget_batch_size: 2\nmax_length: 128\n{keys}"
    draft = new_draft(this_installation().drafts, text)
    at = show("config", draft=draft.id, lang="en")
    assert "2 machines train together, and this is the first." in shown(at)
    host = at.selectbox(key=f"meeting-{draft.id}-host")
    assert host.options == ["127.0.0.2 (eth0)", "127.0.0.3 (eth1)"]
    host.set_value("127.0.0.3")
    port = at.number_input(key=f"meeting-{draft.id}-port").value
    at.button(key="launch").click().run()
    assert not at.exception, at.exception
    if "start_anyway" in [button.key for button in at.button]:  # on a machine with little memory
        at.button(key="start_anyway").click().run()
    (attempt,) = attempts
    assert attempt.meeting is not None, shown(at)
    assert (attempt.meeting.node, attempt.meeting.endpoint) == (0, f"127.0.0.3:{port}")


def test_one_machine_is_asked_nothing_and_one_without_a_network_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = f"model_name: {tmp_path / 'none'}\nbatch_size: 1\ntarget_batch_size: 2\n"
    alone = new_draft(this_installation().drafts, keys)
    assert f"meeting-{alone.id}-host" not in [one.key for one in show("config", draft=alone.id).selectbox]
    monkeypatch.setattr("pages.parts.widgets.meeting_fields.network_addresses", lambda: ())
    two = new_draft(this_installation().drafts, keys + "num_nodes: 2\n")
    assert "This machine has no" in shown(show("config", draft=two.id, lang="en"))


# ----------------------------------------------------------------------------------------------- the run's page


def run_on(node: int, *, name: str = "first", **more: Any) -> RunStore:
    meeting = MachineMeeting(node=node, endpoint="127.0.0.2:29500", code="first.0123456789abcdef")
    config = {"model_name": "m", "r": 4, **TWO, "batch_size": 1, "target_batch_size": 2}
    text = "# mine\nmodel_name: m\n"
    attempt = {"strategy": "ddp", "num_processes": 1, "num_nodes": 2, "meeting": meeting.to_json(), **more}
    folder = this_installation().runs / name
    return make_run(folder.parent, path=folder, config=config, config_text=text, argv=["true"], attempt=attempt)


def test_the_first_machine_shows_the_command_for_each_other_until_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    run, here = run_on(0), identify(os.getpid())
    assert here is not None
    first = PeerProcess(rank=0, host="one", process=here)
    set_status(run, state="running", trainer=here, peers=[first])
    at = show("runs", run=run.id, lang="en")
    assert "Start the other machines" in shown(at)
    assert "Machine 2: waiting" in shown(at)
    command = next(one.value for one in at.code if "--node" in one.value)
    words = shlex.split(command)
    assert words[:6] == ["GLOO_SOCKET_IFNAME=eth0", "flightdeck", "runs", "start", "first.yaml", "--nodes"]
    assert words[6:] == ["2", "--node", "1", "--endpoint", "127.0.0.2:29500", "--code", "first.0123456789abcdef"]
    waits = Message("Waiting for machine {numbers} of {all} at {endpoint}", {"numbers": "2", "all": 2, "endpoint": "e"})
    set_status(run, stage="meeting", detail=waits, peers=[])
    at.run()
    assert "Machine 2: waiting" in shown(at)
    set_status(run, stage="starting", detail=None)
    at.run()
    assert "Start the other machines" not in shown(at), "all have come, and nobody needs a command any more"
    second = PeerProcess(rank=1, node=1, host="two", process=replace(here, boot_id="another"))
    set_status(run, peers=[first, second])
    at.run()
    assert "Start the other machines" not in shown(at)
    (table,) = [one.value for one in at.table if "Device" in one.value.columns]
    assert [cell.replace("\\", "") for cell in table["Machine"]] == ["1 (one)", "2 (two)"]
    end_run(run, "stopped")
    at = show("runs", run=run.id, lang="en")
    (table,) = [one.value for one in at.table if "Device" in one.value.columns]
    assert list(table["State"]) == ["running", "ended"], "of another machine nobody can say more"


def test_another_machine_says_where_the_results_are_and_leaves_the_resume_to_the_first() -> None:
    run = run_on(1, name="first-m2")
    end_run(run, "stopped")
    at = show("runs", run=run.id, lang="en")
    assert "Machine 2 of 2. The run's results are on the first machine, 127.0.0.2:29500 (run first)." in shown(at)
    assert "Resume it on the first machine" in shown(at)
    assert not {"resume_run", "resume_alone"} & {button.key for button in at.button}


def test_a_run_that_goes_on_shows_both_commands() -> None:
    run, here = run_on(0), identify(os.getpid())
    end_run(run, "stopped")
    with run.changing_attempt() as attempt:
        again = attempt.model_copy(update={"number": 2, "changes": {"num_epochs": 9}})
    run.write_attempt_file(again)
    run.exit_json.unlink()
    set_status(run, trainer=here, peers=[])
    at = show("runs", run=run.id, lang="en")
    goes_on, begins = (one.value for one in at.code if "--code" in one.value)
    assert goes_on.startswith("flightdeck runs resume first-m2 --endpoint 127.0.0.2:29500 --code first.")
    assert goes_on.endswith("--set num_epochs=9")
    assert begins.startswith("flightdeck runs start first.yaml --nodes 2 --node 1")


def test_resume_meets_at_the_same_endpoint_or_goes_on_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_on(0)
    asked: list[tuple[Any, Any]] = []

    def prepared(run: RunStore, changes: dict[str, Any] | None) -> Any:
        config = Some(config=Some(num_nodes=(changes or {}).get("num_nodes", 2)))
        return Some(run=run, changes=changes, config=config)

    monkeypatch.setattr(go_on, "prepared", prepared)
    monkeypatch.setattr(go_on, "resume_run", lambda asks, trace, options, **_: asked.append((asks.changes, options.meeting)))  # fmt: skip
    monkeypatch.setattr("lora_backend.launching.meeting.is_port_free", lambda _: True)
    end_run(run, "stopped")
    at = show("runs", run=run.id, lang="en")
    assert at.selectbox(key=f"meeting-{run.id}-host").value == "127.0.0.2"
    at.number_input(key=f"meeting-{run.id}-port").set_value(29555)
    at.button(key="resume_run").click().run()
    assert not at.exception, at.exception
    changes, meeting = asked[0]
    assert (changes, meeting.endpoint) == (None, "127.0.0.2:29555")
    assert meeting.code != "first.0123456789abcdef"
    at = show("runs", run=run.id, lang="en")
    at.button(key="resume_alone").click().run()
    assert asked[1] == ({"num_nodes": 1, "strategy": "auto", "num_processes": None}, None)


def test_the_memory_tab_says_why_its_gpus_share_the_work_so() -> None:
    note = Message("ddp on {count}: the fastest that fits", {"count": 4})
    run = make_run(
        this_installation().runs, config={"model_name": "m"}, config_text="model_name: m\n", argv=["true"],
        attempt={"strategy": "ddp", "strategy_note": note.to_json(), "plan": None},
    )  # fmt: skip
    end_run(run, "stopped")
    assert "the fastest that fits" in shown(show("runs", run=run.id, lang="en"))
