"""What a run was really trained on: hashed from the bytes that are read, at each start; what was changed is refused until
it is confirmed, and the passport says which steps were trained on which."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from lora_backend.errors import DataChangedError
from lora_backend.runs.checkpoints.starts import spans_of
from lora_backend.runs.history.reproduce import reproduction
from lora_backend.runs.record.run_store import RunStore
from lora_backend.trainer.direct_run import train_in_folder
from tests.run_files import attempt_of, end_run, points_of, record_of, set_attempt, start_again
from tests.tiny import chats, write_rows
from tests.training.helpers import at_line, made, made_ready, resumed, stopped_at

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def data(config: Make) -> Path:
    return Path(config()["dataset"])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def changed(path: Path) -> str:
    """One row more; returns the new hash."""
    path.write_text(path.read_text() + json.dumps(chats(1)[0]) + "\n")
    return sha256(path)


def accept(folder: RunStore, path: Path) -> None:
    set_attempt(folder, accepted_data_sha256=sha256(path))


def verified(folder: RunStore, capfd: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    """Exit code of `verify`, and part → verdict."""
    capfd.readouterr()
    code = main(["verify", str(folder.path), "--json", *more])
    return code, {part["part"]: part["verdict"] for part in json.loads(capfd.readouterr().out)["passport"]}


def test_each_start_writes_down_what_it_read_and_was_made_by(config: Make, workspace: Path, data: Path) -> None:
    questions = write_rows(data.with_name("q.jsonl"), [{"messages": [{"role": "user", "content": "how tall"}]}])
    folder = made(workspace, config(max_steps=2, questions=str(questions)))
    at_launch = sha256(data)
    # Exchanged behind the read: what is tokenized is what was hashed.
    with at_line("data: ", lambda: changed(data)):
        train_in_folder(folder)
    attempt = attempt_of(folder)
    assert (attempt["data_sha256"], attempt["questions_sha256"]) == (at_launch, sha256(questions))
    assert (attempt["from_step"], attempt["precision"]) == (0, "fp32")
    assert attempt["versions"]["torch"]
    assert attempt["base"]["weights_sha256"]
    passport = json.loads((folder.adapter / "flightdeck.json").read_text())
    assert passport["data_sha256"] == at_launch
    (start,) = passport["starts"]
    assert (start["first_step"], start["last_step"], start["data_sha256"]) == (1, 2, at_launch)
    assert reproduction(folder).data_sha256.differs


def test_a_run_whose_data_changed_before_it_started_fails_and_says_so(
    config: Make, workspace: Path, data: Path
) -> None:
    folder = made(workspace, config())
    about = record_of(folder) | {"data_sha256": sha256(data)}
    folder.run_json.write_text(json.dumps(about))
    data.write_text("no JSON any more\n")
    with pytest.raises(DataChangedError):
        train_in_folder(folder)
    state = folder.state()
    assert (state.state, state.cause) == ("failed", "data_changed")
    assert state.message is not None
    assert state.remedy is not None
    assert f"The data set {data} has changed since the run was launched" in state.message.text("en")
    assert "--accept-changed-data" in state.remedy.text("en")
    assert "data_sha256" not in attempt_of(folder)


def test_a_resume_in_changed_data_is_refused_and_touches_nothing_until_it_is_confirmed(
    config: Make, workspace: Path, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = stopped_at(workspace, config(max_steps=6), 3)
    first, second = sha256(data), changed(data)
    before = [path.name for path in sorted(folder.checkpoints.iterdir())], points_of(folder)
    with pytest.raises(DataChangedError, match="since the run last read it"):
        resumed(folder)
    assert folder.state().cause == "data_changed"
    assert ([path.name for path in sorted(folder.checkpoints.iterdir())], points_of(folder)) == before
    made_ready(folder)
    accept(folder, data)
    train_in_folder(folder)
    spans = [(span.first_step, span.last_step, span.data_sha256) for span in spans_of(folder, upto=6)]
    assert spans == [(1, 4, first), (5, 6, second)]
    assert verified(folder, capfd) == (
        0,
        {"config": "same", "tensors": "same", "adapter_config": "same", "base_model": "same", "data": "partly"},
    )
    write_rows(data, chats())
    assert verified(folder, capfd)[1]["data"] == "partly", "the data of the first steps is not that of all"
    write_rows(data, chats(2))
    code, parts = verified(folder, capfd)
    assert (code, parts["data"]) == (1, "different")
    again = reproduction(folder)
    assert [one["data_sha256"] for one in again.data_of_steps] == [first, second]
    assert not again.is_as_recorded


def test_data_that_changes_between_the_confirmation_and_the_read_is_asked_for_again(
    config: Make, workspace: Path, data: Path
) -> None:
    folder = stopped_at(workspace, config(max_steps=6), 3)
    changed(data)
    made_ready(folder)
    accept(folder, data)
    changed(data)
    with pytest.raises(DataChangedError):
        train_in_folder(folder)


def test_the_bytes_that_are_trained_on_are_judged_and_not_those_of_a_look_before(
    config: Make, workspace: Path, data: Path
) -> None:
    folder = stopped_at(workspace, config(max_steps=6), 3)
    with pytest.raises(DataChangedError), at_line("stage data", lambda: changed(data)):
        resumed(folder)
    assert "data_sha256" not in attempt_of(folder)


def test_data_that_was_changed_back_needs_no_confirmation(config: Make, workspace: Path, data: Path) -> None:
    folder = stopped_at(workspace, config(max_steps=6), 3)
    first = sha256(data)
    changed(data)
    made_ready(folder)
    accept(folder, data)
    end_run(folder, "failed", cause="killed")
    write_rows(data, chats())
    resumed(folder)
    assert folder.state().state == "finished"
    assert {span.data_sha256 for span in spans_of(folder)} == {first}


def test_a_data_set_that_is_gone_is_said(config: Make, workspace: Path, data: Path) -> None:
    folder = stopped_at(workspace, config(max_steps=6), 3)
    data.unlink()
    with pytest.raises(ValueError, match="There is no data set"):
        resumed(folder)
    assert folder.state().cause == "data"


def test_a_run_that_recorded_less_is_resumed_and_verified(
    config: Make, workspace: Path, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = stopped_at(workspace, config(max_steps=6), 3)
    attempt = folder.attempts / "1.json"
    known = ("number", "num_threads", "plan", "device_uuids")
    attempt.write_text(
        json.dumps({key: value for key, value in json.loads(attempt.read_text()).items() if key in known})
    )
    resumed(folder)
    code, parts = verified(folder, capfd)
    assert (code, parts["data"], parts["base_model"]) == (0, "unknown", "same")
    assert reproduction(folder).data_sha256.differs is False
    write_rows(data, chats(1))
    assert verified(folder, capfd)[1]["data"] == "different"


def test_an_honest_run_that_was_resumed_with_other_settings_verifies(
    config: Make, workspace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = stopped_at(workspace, config(max_steps=4), 2)
    resumed(folder, {"max_steps": 5, "learning_rate": 1e-3})
    code, parts = verified(folder, capfd)
    assert (code, set(parts.values())) == (0, {"same"})
    resumed(folder, {"max_steps": 6})
    assert verified(folder, capfd)[0] == 0
    start_again(folder, "queued", changes={"max_steps": 9})
    assert verified(folder, capfd)[1]["config"] == "same", "the adapter is of the start before"


def test_another_base_model_at_a_resume_is_named(
    config: Make, workspace: Path, tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    model = shutil.copytree(tiny_model, tmp_path / "base")
    folder = stopped_at(workspace, config(max_steps=4, model_name=str(model)), 2)
    weights = load_file(model / "model.safetensors")
    save_file(
        {name: value + torch.randn_like(value) for name, value in weights.items()},
        model / "model.safetensors",
        metadata={"format": "pt"},
    )
    resumed(folder)
    said = "The weights of the base model are not the same as before"
    assert said in folder.train_log.read_text()
    assert said in str(reproduction(folder).starts[0][1][0])
    assert verified(folder, capfd)[1]["base_model"] == "same"
    shutil.copy(tiny_model / "model.safetensors", model / "model.safetensors")
    assert verified(folder, capfd)[1]["base_model"] == "different"
