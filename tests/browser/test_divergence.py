"""A run whose loss turns away, as its owner meets it: seen, stopped, and gone on with at half the learning rate."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page

from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.drafts import new_draft
from lora_backend.runs.record.run_store import list_runs
from tests.browser.conftest import Dashboard, badge, press, settled
from tests.browser.patience import expect
from tests.run_files import attempt_of

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def test_a_run_that_diverges_is_stopped_and_resumed_with_half_the_rate_in_three_clicks(
    tiny: Dashboard, page: Page
) -> None:
    values = {
        "model_name": str(tiny.home / "tiny-model"), "dataset": str(tiny.home / "chats.jsonl"), "r": 4, "alpha": 4096,
        "target_modules": ["down_proj", "lm_head"], "max_length": 64, "learning_rate": 0.5, "lr_scheduler_type": "constant",
        "num_epochs": 2000, "logging_steps": 1, "max_grad_norm": 1000.0, "precision": "fp32", "optim": "sgd",
    }  # fmt: skip
    draft = new_draft(tiny.workspace / "drafts", dump_yaml(values))
    settled(page, f"{tiny.url}/config?draft={draft.id}")
    press(page.get_by_role("button", name="Launch", exact=True))
    page.wait_for_url(re.compile(r"/runs\?.*run="))
    expect(page.get_by_text(re.compile("has been far above it since step")).first).to_be_visible()
    press(page.get_by_role("button", name="Save and stop"))
    expect(badge(page, "× its start")).to_be_visible()
    press(page.get_by_role("button", name=re.compile("half the learning rate")))
    expect(badge(page, "Running")).to_be_visible()

    (run,) = list_runs(tiny.workspace / "runs")
    attempt = attempt_of(run)
    assert attempt["number"] == 2
    assert attempt["changes"]["learning_rate"] == 0.25
    assert run.config_as_changed()["learning_rate"] == 0.25
