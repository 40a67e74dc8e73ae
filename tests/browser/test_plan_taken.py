"""A 70B plan on three unequal GPUs: moved by hand, priced, and taken into a config that trains by it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page

from lora_backend.config.config_text import parse_config
from lora_backend.config.drafts import list_drafts
from tests.browser.conftest import Dashboard, idle, press
from tests.browser.patience import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

ADDRESS = "/plan?model=meta-llama/Llama-3.1-70B&gpus=A100-80G,L40S,RTX-4090&gradient_checkpointing=true&batch_size=1&rows=1000&price=1.5"
"""With a price of a GPU hour and a number of rows, which `Price of one GPU for an hour` and `rows` on the left set."""


def test_a_70b_plan_is_moved_priced_and_taken_into_a_config(shared_dashboard: Dashboard, page: Page) -> None:
    page.goto(shared_dashboard.url + ADDRESS)
    expect(page.get_by_test_id("stAlertContentSuccess").get_by_text("It fits")).to_be_visible()
    idle(page)
    expect(page.get_by_text(re.compile(r"[\d.,]+ to [\d.,]+ USD|about [\d.,]+ USD")).first).to_be_visible()

    # by the keyboard alone: the fields beside the picture say which blocks move
    for name in ("to", "from"):
        field = page.get_by_role("spinbutton", name=name, exact=True)
        field.focus()
        page.keyboard.press("Control+a")
        page.keyboard.type("79")
        page.keyboard.press("Enter")
        idle(page)
        expect(field).to_have_value("79")
    page.get_by_role("button", name="Move", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("placed by hand")).to_be_visible()
    idle(page)

    press(page.get_by_role("button", name="Use in config"))
    page.wait_for_url(re.compile(r"/config\?.*draft="))
    expect(page.get_by_role("button", name="Launch", exact=True)).to_be_visible()
    (draft,) = list_drafts(shared_dashboard.workspace / "drafts")
    placed = parse_config(draft.text()).values["device_map"]
    assert len([name for name in placed if re.fullmatch(r"model\.layers\.\d+", name)]) == 80
    assert set(placed.values()) == {0, 1, 2}
    expect(page.get_by_text(re.compile("80 blocks on 3 GPUs")).first).to_be_visible()
