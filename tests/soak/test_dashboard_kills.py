"""Twenty SIGKILLs of the dashboard at random moments, launches included, with a real run going on and a browser on it."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.record.process_identity import marked
from lora_backend.runs.record.run_store import RunStore, list_runs
from tests.browser.conftest import Dashboard, badge, browser, dashboard, page, press, settled, tiny  # noqa: F401 - fixtures
from tests.browser.patience import expect, wait_at_most
from tests.run_files import log_tail, points_of
from tests.soak.conftest import Figures
from tests.soak.real import END_S, TRUE_WITHIN_S, seconds_until_true
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.soak, pytest.mark.timeout(3600)]
KILLS, STEPS = 20, 1000
CONFIG = """\
model_name: {model}
dataset: chats.jsonl
r: 4
alpha: 8
max_steps: {steps}
learning_rate: 2e-3
batch_size: 4
precision: fp32
logging_steps: 1
save_steps: 50
"""


def launch(page: Page, dashboard: Dashboard, file: Path) -> None:  # noqa: F811 - named as the fixtures are
    """Upload a config and click, as a person would; what comes of the click is not waited for."""
    file.write_text(CONFIG.format(model=dashboard.home / "tiny-model", steps=STEPS))
    settled(page, dashboard.url)
    page.get_by_role("link", name="Config", exact=True).click()
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(file)
    press(page.get_by_role("button", name="Launch"))


def going(dashboard: Dashboard) -> list[RunStore]:  # noqa: F811
    return [run for run in list_runs(dashboard.workspace / "runs") if not recover(run).has_ended]


@pytest.fixture
def patient(browser: Browser) -> Page:  # noqa: F811
    opened = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US").new_page()
    opened.set_default_timeout(300_000)
    wait_at_most(300_000)
    return opened


def test_twenty_kills_of_the_dashboard_leave_every_run_as_it_was(
    tiny: Dashboard,  # noqa: F811
    patient: Page,
    tmp_path: Path,
    figures: Figures,
) -> None:
    draw, times, hit, waits = random.Random(9), [], {"launching": 0, "training": 0, "other": 0}, True
    for _ in range(KILLS):
        before = {run.id: recover(run).step for run in going(tiny)}
        if not before:
            known = len(list_runs(tiny.workspace / "runs"))
            launch(patient, tiny, tmp_path / "walk.yaml")
            if waits:  # the first launch, and one after another that was cut off: so that there is a run
                until(lambda known=known: len(list_runs(tiny.workspace / "runs")) > known, "it is launched", END_S)  # type: ignore[misc]
            time.sleep(draw.uniform(0, 2))
            waits = not waits
        else:
            settled(patient, f"{tiny.url}/runs?run={next(iter(before))}")
            time.sleep(draw.uniform(0, 2))
        tiny.kill()
        runs = list_runs(tiny.workspace / "runs")
        states = [run.state().state for run in runs]
        hit["training" if "running" in states else "launching" if not before else "other"] += 1

        tiny.start()
        settled(patient, f"{tiny.url}/runs")
        for run in runs:
            times.append(seconds_until_true(run, tiny.workspace))
            assert recover(run).state in ("queued", "starting", "running", "finished"), recover(run)
            assert recover(run).step >= before.get(run.id, 0)
        for run in runs:
            settled(patient, f"{tiny.url}/runs?run={run.id}")
            until(lambda run=run: _is_shown(patient, run), "the page says so too", limit_s=END_S)  # type: ignore[misc]

    for run in going(tiny):
        settled(patient, f"{tiny.url}/runs?run={run.id}")
        expect(badge(patient, "Finished")).to_be_visible(timeout=END_S * 1000)
    runs = list_runs(tiny.workspace / "runs")
    assert runs
    for run in runs:
        assert recover(run).state == "finished", log_tail(run, 3000)
        assert [row["step"] for row in points_of(run)] == list(range(1, STEPS + 1)), "no gap and nothing twice"
    tiny.kill()
    until(lambda: not list(marked("FLIGHTDECK_WORKSPACE", str(tiny.workspace))), "no process is left", limit_s=END_S)
    assert max(times) <= TRUE_WITHIN_S, times
    figures(
        f"dashboard killed and restarted {KILLS} times ({hit['training']} in training, {hit['launching']} while a run was launched): "
        f"{len(runs)} runs of {STEPS} steps finished, every curve whole; state true within {max(times):.2f} s; no process left"
    )


def _is_shown(page: Page, run: RunStore) -> bool:  # noqa: F811
    word = {"queued": "Queued", "starting": "Starting", "running": "Running", "finished": "Finished"}
    return bool(badge(page, word[recover(run).state]).count())
