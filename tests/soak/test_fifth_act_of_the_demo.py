"""The demo taken along: a browser asks it, evaluates, truncates, merges, downloads it, and a fresh process answers the same."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from lora_backend.demo.config import promise_kept
from lora_backend.runs.record.run_store import RunStore, list_runs
from tests.browser.conftest import ROOT, Dashboard, browser, dashboard, page  # noqa: F401 - fixtures
from tests.browser.fifth_act import FifthAct
from tests.browser.patience import WAITS_MS, wait_at_most
from tests.soak.conftest import Figures
from tests.soak.real import END_S

pytestmark = [pytest.mark.browser, pytest.mark.soak, pytest.mark.timeout(5400)]


@pytest.fixture
def demo(dashboard: Dashboard) -> RunStore:  # noqa: F811
    """The demo, trained."""
    command = [sys.executable, "-m", "lora_backend", "demo", "--train"]
    subprocess.run(command, cwd=ROOT, env=dashboard.environment(), check=True, capture_output=True)
    (run,) = list_runs(dashboard.workspace / "runs")
    return run


@pytest.fixture
def patient(page: Page) -> Iterator[Page]:  # noqa: F811
    """A page that waits longer: a model of 135 million parameters is loaded, on a machine that does other things too."""
    page.set_default_timeout(300_000)
    wait_at_most(300_000)
    yield page
    wait_at_most(WAITS_MS)


def test_the_demo_is_tried_measured_and_taken_along(
    dashboard: Dashboard,  # noqa: F811
    demo: RunStore,
    patient: Page,
    tmp_path: Path,
    figures: Figures,
) -> None:
    answers = demo.read_answers()
    assert promise_kept(answers)
    learned = next(row for row in answers if row.adapter_correct and not row.base_correct)
    began, steps = time.monotonic(), []

    def done(step: str) -> None:
        steps.append(f"{step} at {time.monotonic() - began:.0f} s")

    FifthAct(dashboard, demo, patient, END_S).walk(learned, tmp_path, done)
    figures(f"the demo, from its finished run on: {', '.join(steps)}")
