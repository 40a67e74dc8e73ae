"""Twenty SIGKILLs of exports and downloads under their supervisors, and of both at once: whole, or absent and made by the next."""

from __future__ import annotations

import os
import random
import signal
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from transformers import LlamaConfig

from lora_backend.installation import this_installation
from lora_backend.launching.jobs import restart_job, start_job
from lora_backend.preflight.export_place import MARKER, is_export
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.record.job_documents import DownloadRequest, DownloadResult, ExportRequest, ExportResult
from lora_backend.runs.record.run_store import RunStore
from tests.hub.conftest import cache, hub  # noqa: F401 - fixtures
from tests.hub.stored import ID, model_files, whole_or_absent
from tests.hub_server import HubServer
from tests.run_files import log_tail
from tests.shipping.exporting import content, written
from tests.shipping.shipped import made_adapter, saved_base
from tests.soak.conftest import Figures
from tests.soak.real import END_S, supervisors_of, trainers_of, wait_for_end
from tests.waiting import until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600), pytest.mark.usefixtures("ended_after")]
EXPORTS = {"merged": ("merged", "out", 3), "zip": ("adapter", "out.zip", 3), "folder": ("adapter", "out", 2), "gguf": ("gguf", "out.gguf", 2)}  # fmt: skip
"""Form → target, name of what is made, kills."""
DOWNLOADS, MODEL_BYTES = 10, 16_000_000


@pytest.fixture
def adapter(workspace: Path, tmp_path: Path) -> Path:
    """Of 30 MB on a base of 90 MB, so that there are moments to be killed in."""
    config = LlamaConfig(
        vocab_size=64, hidden_size=768, intermediate_size=2048, num_hidden_layers=3, num_attention_heads=12
    )
    made_adapter(tmp_path / "a", saved_base(tmp_path / "base", config), r=128)
    return tmp_path / "a"


def killed(job: RunStore, is_due: Callable[[], bool], *, with_supervisor: bool) -> bool:
    """Kill the processes of a job once it is time; whether that hit it before its end. Then its end is written."""
    until(lambda: is_due() or recover(job).has_ended, f"it is time to kill {job.id}", limit_s=END_S)
    for identity in [*(supervisors_of(job) if with_supervisor else ()), *trainers_of(job)]:
        with suppress(ProcessLookupError):
            os.kill(identity.pid, signal.SIGKILL)
    wait_for_end(job)
    until(lambda: not trainers_of(job), "no process of it is left")
    state = recover(job).state
    assert state in ("failed", "lost", "finished"), log_tail(job, 3000)
    return state != "finished"


def held(path: Path) -> dict[str, object]:
    """What an export is, but for the mark that names its job."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as packed:
            assert packed.testzip() is None
            return {member.filename: member.CRC for member in packed.infolist() if Path(member.filename).name != MARKER}
    if path.is_file():
        return {"size": path.stat().st_size}
    return {name: digest for name, digest in content(path).items() if name != MARKER}


@pytest.mark.parametrize("form", EXPORTS)
def test_exports_killed_under_their_supervisors_are_whole_or_absent(
    form: str, adapter: Path, tmp_path: Path, figures: Figures
) -> None:
    draw, (to, name, kills) = random.Random(form), EXPORTS[form]
    folder, here = tmp_path / "taken", this_installation()
    target = folder / name
    job = start_job(ExportRequest(adapter=str(adapter), to=to, output=str(target), overwrite=True), here, name=form)  # type: ignore[arg-type]
    wait_for_end(job)
    assert recover(job).state == "finished", log_tail(job, 3000)
    whole, total = held(target), sum(path.stat().st_size for path in [target, *target.rglob("*")] if path.is_file())
    target.rename(tmp_path / f"reference-{name}")

    hits, absent = 0, 0
    for number in range(kills):
        goal = min(1.0, draw.uniform(0, 1.3)) * total  # a quarter of them while what is written is proved
        job = restart_job(job, here)
        hits += killed(job, lambda goal=goal: (written(folder) or -1) >= goal, with_supervisor=bool(number % 2))  # type: ignore[misc]
        if os.path.lexists(target):
            assert held(target) == whole
            assert is_export(target)
        else:
            absent += 1
    assert hits >= kills - 1, "it was hit while it was made"
    job = restart_job(job, here)
    wait_for_end(job)
    result = job.read_result(ExportResult)
    assert result is not None, log_tail(job, 3000)
    assert result.is_proved
    assert held(target) == whole
    assert [path.name for path in folder.iterdir()] == [name], "nothing is left of those that were killed"
    figures(
        f"export {form} killed {hits} times: absent {absent} times, else whole; the next was whole, nothing left over"
    )


def test_a_download_killed_ten_times_goes_on_each_time(hub: HubServer, cache: Path, figures: Figures) -> None:  # noqa: F811
    draw, here, files = random.Random(11), this_installation(), model_files(MODEL_BYTES)
    hub.add(ID, files)
    hub.pause_s = 0.002
    blobs = cache / "models--acme--tiny-model/blobs"

    def there() -> int:
        return sum(path.stat().st_size for path in blobs.glob("*"))

    job, before, hits = start_job(DownloadRequest(repo_id=ID), here, name=ID), 0, 0
    for number in range(DOWNLOADS):
        goal = int(MODEL_BYTES * (number + draw.random()) / DOWNLOADS)
        hits += killed(job, lambda goal=goal: there() > goal, with_supervisor=bool(number % 2))  # type: ignore[misc]
        assert not whole_or_absent(cache, files), "half a model is found by nobody"
        assert there() >= before
        before = there()
        job = restart_job(job, here)
    assert hits == DOWNLOADS
    wait_for_end(job)
    result = job.read_result(DownloadResult)
    assert result is not None, log_tail(job, 3000)
    assert result.downloaded_bytes == result.size_bytes - before, "no byte came twice"
    assert whole_or_absent(cache, files)
    figures(f"download killed {hits} times: found by nobody before its end, every byte kept, whole at last")
