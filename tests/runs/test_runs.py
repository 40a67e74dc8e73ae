"""A run's folder and its state, judged with real processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lora_backend.atomic import write_atomic
from lora_backend.errors import RunError
from lora_backend.i18n import Message
from lora_backend.installation import this_installation
from lora_backend.runs.processes.supervisor import supervise
from lora_backend.runs.record.process_identity import ProcessIdentity, boot_clock_s, boot_id, identify, is_alive
from lora_backend.runs.record.run_store import RunStore, list_runs, open_run
from lora_backend.runs.record.transitions import request_stop
from tests.run_files import add_point, end_run, log_tail, make_run, points_of, record_of, set_status


def made(root: Path, argv: list[str] | None = None, **more: Any) -> RunStore:
    return make_run(root, config={"model_name": "m"}, config_text="model_name: m\n", argv=argv, **more)


@pytest.fixture
def child() -> Any:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def test_a_process_is_known_by_pid_start_and_boot(child: Any) -> None:
    identity = identify(child.pid)
    assert identity
    assert is_alive(identity)
    assert not is_alive(ProcessIdentity(child.pid, identity.start_ticks + 1, identity.boot_id)), "the pid was reused"
    assert not is_alive(ProcessIdentity(child.pid, identity.start_ticks, "another boot"))


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    identity = identify(process.pid)
    process.kill()
    deadline = time.monotonic() + 10
    while identity and is_alive(identity) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert identity
    assert identify(process.pid) == identity, "it is still there, as a zombie"
    assert not is_alive(identity)
    process.wait()


def test_the_state_follows_the_processes(tmp_path: Path, child: Any) -> None:
    run = made(tmp_path)
    assert run.state().state == "starting"
    identity = identify(child.pid)
    assert identity
    set_status(run, state="running", trainer=identity.to_json(), step=3)
    assert (run.state().state, run.state().step) == ("running", 3)
    request_stop(run)
    assert run.state().state == "stopping"
    child.kill()
    child.wait()
    assert run.state().state == "lost"
    end_run(run, "failed", cause="killed", message=Message("gone"))
    assert run.state().state == "failed"


def test_a_run_that_no_process_ever_took_up_is_lost_after_its_grace(tmp_path: Path) -> None:
    run = made(tmp_path)
    set_status(run, launched={"boot_id": boot_id(), "boot_clock_s": boot_clock_s() - 60})
    assert run.state().state == "lost"


def test_the_first_end_stands(tmp_path: Path) -> None:
    run = made(tmp_path)
    end_run(run, "finished")
    end_run(run, "failed", cause="late")
    assert run.state().state == "finished"


@pytest.mark.parametrize(
    ("script", "state", "cause", "said"),
    [
        ("raise SystemExit(3)", "failed", "crashed", "code 3"),
        ("import os; os.kill(os.getpid(), 15)", "failed", "killed", "SIGTERM"),
        ("set_status(FOLDER, outcome='finished')", "finished", None, None),
        ("set_status(FOLDER, outcome='stopped')", "stopped", None, None),
        ("set_status(FOLDER, outcome='finished'); raise SystemExit(1)", "finished", None, None),
    ],
)
def test_the_supervisor_writes_how_it_ended(
    script: str, state: str, cause: str | None, said: str | None, tmp_path: Path
) -> None:
    run = made(tmp_path)
    shutil.rmtree(run.path)
    head = f"from pathlib import Path; from lora_backend.runs.record.run_store import RunStore; from tests.run_files import set_status; FOLDER = RunStore(Path({str(run.path)!r})); print('hello'); "
    run = made(tmp_path, [sys.executable, "-c", head + script], path=run.path)
    supervise(run, this_installation())
    ended = run.state()
    assert (ended.state, ended.cause) == (state, cause)
    assert said is None or (ended.message is not None and said in ended.message.text("en"))
    assert "hello" in log_tail(run)


def test_a_trainer_that_cannot_start_is_a_sentence(tmp_path: Path) -> None:
    run = made(tmp_path, ["/no/such/program"])
    supervise(run, this_installation())
    assert (run.state().state, run.state().cause) == ("failed", "start")


def test_half_written_files_are_no_error(tmp_path: Path) -> None:
    run = made(tmp_path)
    add_point(run, {"step": 1, "loss": 2.0})
    with run.metrics_jsonl.open("a") as file:
        file.write('{"step": 2, "lo')
    run.status_json.write_text('{"state": "run')
    assert [row["step"] for row in points_of(run)] == [1]
    assert run.state().state == "lost"


def test_the_tail_of_the_log_starts_at_a_line_and_survives_bad_bytes(tmp_path: Path) -> None:
    run = made(tmp_path)
    run.train_log.write_bytes(b"first line\n" + b"x" * 50 + b"\nl\xffst\n")
    assert log_tail(run, 20) == "l\ufffdst\n"
    assert log_tail(run).startswith("first line")


@pytest.mark.parametrize("run_id", ["..", "a/b", "", "/etc", ".hidden", "x" * 100, "none"])
def test_an_id_that_is_none_is_refused(run_id: str, tmp_path: Path) -> None:
    with pytest.raises(RunError):
        open_run(tmp_path, run_id)


def test_runs_are_listed_newest_first_and_a_deleted_one_is_a_sentence(tmp_path: Path) -> None:
    for name in ("20260101-000000-aaaa", "20260102-000000-aaaa"):
        made(tmp_path, path=tmp_path / name)
    (tmp_path / "not-a-run").mkdir()
    assert [run.id for run in list_runs(tmp_path)] == ["20260102-000000-aaaa", "20260101-000000-aaaa"]
    run = list_runs(tmp_path)[0]
    shutil.rmtree(run.path)
    with pytest.raises(RunError, match="not found"):
        record_of(run)
    assert list_runs(tmp_path / "none") == []


def test_a_second_run_in_one_folder_is_refused(tmp_path: Path) -> None:
    made(tmp_path, path=tmp_path / "one")
    with pytest.raises(RunError, match="already"):
        made(tmp_path, path=tmp_path / "one")


def test_of_two_who_make_a_run_in_one_folder_at_once_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[object] = []

    def make(name: str) -> None:
        try:
            found.append(make_run(tmp_path, config={"name": name}, config_text=name, argv=None, path=tmp_path / "one"))
        except RunError as error:
            found.append(str(error))

    other = threading.Thread(target=make, args=("b",))

    def write(path: Path, text: str) -> None:
        if not other.ident:
            other.start()
            other.join(timeout=0.3)  # it has its turn only when the first run is made
        write_atomic(path, text)

    monkeypatch.setattr("lora_backend.runs.record.transitions.write_atomic", write)
    make("a")
    other.join()
    run, refused = found
    assert isinstance(run, RunStore)
    assert "already a run" in str(refused)
    assert (record_of(run)["config"], run.config_yaml.read_text()) == ({"name": "a"}, "a")


def test_files_are_readable_by_whom_the_umask_allows(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        assert made(tmp_path).run_json.stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(mask)
