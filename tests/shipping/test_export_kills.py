"""SIGKILL at random moments of an export: what stands under its name is whole, or absent, and the next one clears up."""

from __future__ import annotations

import os
import random
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from lora_backend.installation import this_installation
from lora_backend.launching.jobs import make_job
from lora_backend.preflight.export_place import MARKER, is_export
from lora_backend.runs.history.replaced_exports import ExportBin
from lora_backend.runs.record.job_documents import ExportRequest, ExportResult
from lora_backend.runs.record.run_store import RunStore, new_run_id
from lora_backend.runs.record.transitions import request_stop
from lora_backend.shipping.staged_export import staging
from lora_backend.verification.passport import file_sha256
from tests.run_files import log_tail
from tests.shipping.exporting import content, started, written
from tests.shipping.shipped import good, made_adapter, saved_base
from tests.waiting import until

KILLS = {"adapter": 5, "folder": 4, "gguf": 3}
NAMES = {"adapter": "mine.zip", "folder": "mine", "gguf": "mine.gguf"}


@pytest.fixture
def adapter(workspace: Path, tmp_path: Path) -> Path:
    """Some 24 MB, so that there are moments to be killed in; of its base only the config is here, so nobody loads it."""
    config = LlamaConfig(
        vocab_size=64, hidden_size=512, intermediate_size=512, num_hidden_layers=6, num_attention_heads=4
    )
    base = saved_base(tmp_path / "base", config)
    made_adapter(tmp_path / "a", base, r=128)
    (base / "model.safetensors").unlink()
    return tmp_path / "a"


def job_of(request: ExportRequest) -> RunStore:
    installation = this_installation()
    path = installation.runs / new_run_id()
    return make_job(request, path, ["true"], installation, name="test")


def is_due(process: BaseProcess, folder: Path, threshold: int) -> bool:
    """Whether to kill: so many bytes are written. Or it ended by itself."""
    now = written(folder)
    return process.exitcode is not None or (now is not None and now >= threshold)


def killed_at(request: ExportRequest, folder: Path, threshold: int) -> bool:
    """Export in a process, and kill it when so many bytes are written; whether it was hit before its end."""
    job = job_of(request)
    process = started(job)
    until(lambda: is_due(process, folder, threshold), "it begins to write")
    if process.exitcode is None and process.pid is not None:
        os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode is not None, log_tail(job, 3000)
    return process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("form", KILLS)
def test_killed_at_any_moment_it_is_whole_or_absent(form: str, adapter: Path, tmp_path: Path) -> None:
    draw, to = random.Random(form), "gguf" if form == "gguf" else "adapter"
    folder = tmp_path / "out"
    target = folder / NAMES[form]
    request: dict[str, Any] = {"adapter": str(adapter), "to": to, "output": str(target), "overwrite": True}
    good(adapter, to, target)
    expected, total = content(target), sum(path.stat().st_size for path in ([target] if target.is_file() else target.iterdir()))  # fmt: skip
    target.rename(tmp_path / "reference") if target.is_dir() else target.unlink()
    num_hit = num_absent = 0
    for number in range(KILLS[form]):
        hit = killed_at(ExportRequest(**request), folder, draw.randint(0, total * (2 if form == "adapter" else 1)))
        num_hit += hit
        if os.path.lexists(target):
            found = content(target)
            assert {name for name in found if name != MARKER} == {name for name in expected if name != MARKER}
            assert all(found[name] == expected[name] for name in found if name not in (MARKER, target.name))
            assert is_export(target)
        else:
            num_absent += 1
        assert len(list(folder.iterdir())) <= 2, f"what an earlier one left is gone after kill {number}"
    assert num_hit >= KILLS[form] - 1, "it was hit while it wrote"
    assert num_absent
    good(adapter, to, target, overwrite=True)
    assert [path.name for path in folder.iterdir()] == [target.name], "nothing is left of the killed ones"


def test_killed_while_it_replaces_the_old_one_is_there_or_in_the_bin(adapter: Path, tmp_path: Path) -> None:
    draw, folder = random.Random(3), tmp_path / "out"
    target = folder / "mine.zip"
    good(adapter, "adapter", target)
    first = file_sha256(target)
    request = ExportRequest(adapter=str(adapter), to="adapter", output=str(target), overwrite=True, dtype="bf16")
    killed_at(request, folder, draw.randint(0, 2**24))
    kept = [file_sha256(binned.path) for binned in ExportBin(this_installation()).list()]
    assert first in [file_sha256(target), *kept]


def test_a_stop_takes_back_what_is_half_done(adapter: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    job = job_of(ExportRequest(adapter=str(adapter), to="adapter", output=str(folder / "mine.zip")))
    request_stop(job)
    process = started(job)
    process.join(60)
    assert process.exitcode is not None, log_tail(job, 3000)
    assert job.read_status().attempt.outcome == "stopped"
    assert job.read_result(ExportResult) is None
    assert not folder.exists() or list(folder.iterdir()) == []


def test_an_export_that_goes_on_is_not_taken_for_a_leftover(tmp_path: Path) -> None:
    with staging(tmp_path / "one") as first, staging(tmp_path / "two") as second:
        assert first.is_dir()
        assert second.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_one_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".mine.zip.flightdeck-part-0123abcd"
    (left / "export").mkdir(parents=True)
    others = tmp_path / ".mine.zip.flightdeck-part-mine"
    others.mkdir()
    with staging(tmp_path / "mine.zip"):
        assert not left.exists()
    assert list(tmp_path.iterdir()) == [others]
