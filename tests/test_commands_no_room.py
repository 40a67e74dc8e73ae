"""Commands on a disk that is full or read-only: one sentence with folder and remedy, exit 2 or 1, and no traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lora_backend.installation import child_environment
from lora_backend.runs.record.process_identity import identify
from tests.run_files import make_run, set_status
from tests.runs.conftest import faults  # noqa: F401 - the fixture

SCRIPT = """
import contextlib, io, json, sys
from pathlib import Path
from lora_backend import cli
flag, asked, found = Path(sys.argv[1]), json.loads(sys.argv[2]), []
for words in asked:
    out, err = io.StringIO(), io.StringIO()
    flag.touch()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main(words)
        except BaseException as error:
            code = repr(error)
    flag.unlink()
    found.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(found))
"""
FULL = r"(?m)^There is no space left in {ws}\S*\. Free some space, then try again\."
READ_ONLY = (
    r"(?m)^{ws}\S* is read-only\. Make it writable, or set FLIGHTDECK_WORKSPACE to another folder and start again\."
)


@pytest.mark.parametrize(("number", "beginning"), [(None, FULL), (30, READ_ONLY)], ids=["full", "read-only"])
def test_every_command_that_writes_says_which_disk_it_is(
    number: int | None,
    beginning: str,
    tmp_path: Path,
    tiny_model: Path,
    faults: Path,  # noqa: F811
) -> None:
    workspace, out = tmp_path / "ws", tmp_path / "ws/out"
    out.mkdir(parents=True)
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    ours, theirs = tmp_path / "c.yaml", tmp_path / "lf.yaml"
    ours.write_text(f"model_name: {tiny_model}\ndataset: {tmp_path / 'a.jsonl'}\nmax_steps: 1\n")
    theirs.write_text("model_name_or_path: m\nfinetuning_type: lora\nlora_rank: 8\nstage: sft\n")
    run = make_run(
        workspace / "runs", config={"model_name": "m"}, config_text="", argv=["x"], path=workspace / "runs/one"
    )
    me = identify(os.getpid())
    assert me is not None
    set_status(run, state="running", stage="training", trainer=me.to_json(), step=1, total_steps=9)
    asked = [
        ["train", str(ours)], ["train", str(ours), "--run-dir", str(out / "run")], ["import", str(theirs), "--output", str(out / "x.yaml")],
        ["export", str(ours), "--to", "peft", "--output", str(out / "y.json")], ["runs", "stop", "one"],
        ["runs", "stop", "one", "--json"], ["import", str(theirs), "--output", str(out / "x.yaml"), "--json"],
    ]  # fmt: skip
    looks = [["runs", "list"], ["runs", "show", "one"], ["check", str(ours)], ["runs", "queue"]]
    environment = child_environment(
        FLIGHTDECK_WORKSPACE=str(workspace),
        FLIGHTDECK_HOME=str(tmp_path / "home"),
        LD_PRELOAD=str(faults),
        FAULT_PATH=str(workspace),
        FAULT_WHEN=str(tmp_path / "flag"),
        **({"FAULT_ERRNO": str(number)} if number else {}),
    )
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "flag"), json.dumps([*asked, *looks])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for words, (code, printed, said) in zip([*asked, *looks], found, strict=True):
        assert isinstance(code, int), (words, code)
        assert "Traceback" not in printed + said, words
        assert "Errno" not in printed + said, words
        if words in asked:
            assert code == 2, (words, printed, said)
            sentence = json.loads(printed)["error"] if "--json" in words else said
            assert re.search(beginning.format(ws=re.escape(str(workspace))), sentence), (words, sentence)
    assert [path.name for path in (workspace / "runs").iterdir()] == ["one"]
    assert list(out.iterdir()) == []
