"""A run that two processes train, from the page: launched, both watched, stopped, and gone on with by one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page

from lora_backend.installation import this_installation
from lora_backend.preflight.plan_vs_measured import compare
from lora_backend.runs.processes.leases import CPU, holders
from lora_backend.runs.processes.leftovers import RUN_MARK
from lora_backend.runs.record.process_identity import marked
from lora_backend.runs.record.run_store import RunStore, list_runs
from tests.browser.conftest import Dashboard, badge, idle, press, settled
from tests.browser.patience import STARTS_MS, expect
from tests.run_files import points_of
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

CONFIG = """\
# trained by two
model_name: {model}
dataset: chats.jsonl
strategy: ddp
num_processes: 2
r: 4
alpha: 8
num_epochs: 100000
learning_rate: 2e-4
batch_size: 4
target_batch_size: 8
precision: fp32
logging_steps: 1
"""
WORDS = "written by 2 processes, but the run continues with 1 process"


def launched(page: Page, dashboard: Dashboard, tmp_path: Path) -> RunStore:
    """As a person does it who has the config in a file; in its training."""
    file = tmp_path / "two.yaml"
    file.write_text(CONFIG.format(model=dashboard.home / "tiny-model"))
    settled(page, dashboard.url)
    page.get_by_role("link", name="Config", exact=True).click()
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(file)
    press(page.get_by_role("button", name="Launch"))
    page.wait_for_url(re.compile(r"/runs\?.*run="), timeout=STARTS_MS)
    (run,) = list_runs(dashboard.workspace / "runs")
    expect(page.get_by_text(re.compile(r"Step [1-9]\d* of")).first).to_be_visible(timeout=STARTS_MS)
    return run


def processes(page: Page) -> Locator:
    """Rows of the table of processes."""
    return page.get_by_test_id("stTable").filter(has_text="PID").locator("tbody tr")


def is_log_of_second(page: Page, run: RunStore) -> bool:
    """Whether the log that is shown has lines that only process 1 has written."""
    shown = page.get_by_test_id("stCode").filter(has_text="INFO").first.inner_text().splitlines()
    first, second = (run.peer_log(rank).read_text().splitlines() for rank in (0, 1))
    return bool({*shown} & {*second} - {*first})


def test_two_processes_are_watched_and_stopped_and_one_goes_on(tiny: Dashboard, page: Page, tmp_path: Path) -> None:
    run = launched(page, tiny, tmp_path)
    press(page.get_by_role("tab", name="Log"))
    expect(processes(page)).to_have_count(2)
    for rank in range(2):
        expect(processes(page).nth(rank)).to_contain_text(re.compile(rf"{rank}\s*cpu\s*running"))
    press(page.get_by_role("radio", name="Process 1"))
    until(lambda: is_log_of_second(page, run), "the log of process 1 is shown", 120.0)

    press(page.get_by_role("button", name="Save and stop"))
    expect(badge(page, "Stopped")).to_be_visible(timeout=STARTS_MS)
    idle(page)
    until(lambda: not [*marked(RUN_MARK, str(run.path))], "no process of it is left")
    assert holders(run.workspace / "leases", [CPU]) == []
    stopped_at = run.state().step
    held = compare(run.read_attempt(), run.read_record().config, this_installation(tiny.environment()))
    press(page.get_by_role("tab", name="Memory"))
    for rank in range(2):
        expect(page.get_by_text(f"CPU, host memory · Process {rank}")).to_be_visible()
        assert held[rank].difference == pytest.approx(0, abs=0.03)
        expect(page.get_by_text(f"{100 * (held[rank].difference or 0):+.1f}%").first).to_be_visible()

    press(page.get_by_role("button", name="Resume with changes"))
    settings = page.get_by_role("textbox", name="Settings")
    settings.fill(f"strategy: single\nnum_processes: 1\nmax_steps: {stopped_at + 5}")
    settings.press("Control+Enter")
    press(page.get_by_role("button", name="Resume with these changes"))
    expect(badge(page, "Finished")).to_be_visible(timeout=STARTS_MS)
    expect(page.get_by_text(WORDS)).to_be_visible()
    idle(page)
    press(page.get_by_role("tab", name="Log"))
    expect(processes(page)).to_have_count(0)
    first, second = run.read_attempts()
    assert (first.strategy, first.num_peers, second.strategy, second.num_peers) == ("ddp", 2, "cpu", 1)
    assert second.from_step == stopped_at
    steps = [row["step"] for row in points_of(run) if "loss" in row]
    assert steps == list(range(1, stopped_at + 6)), "no point of the curve is missing or there twice"
    assert (run.adapter / "adapter_model.safetensors").is_file()
