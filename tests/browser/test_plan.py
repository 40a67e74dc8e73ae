"""A person plans a 70B model on three unequal GPUs in a real browser, moves layers, takes it back, and takes the map along."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Dashboard, idle, press, settled
from tests.browser.patience import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

ADDRESS = "/plan?model=meta-llama/Llama-3.1-70B&gpus=80,48,24&gradient_checkpointing=true&batch_size=1"


def test_llama_70b_on_three_unequal_gpus(shared_dashboard: Dashboard, page: Page) -> None:
    page.goto(shared_dashboard.url + ADDRESS)  # traced first, so it is not settled soon
    verdict = page.get_by_test_id("stAlertContentSuccess").get_by_text("It fits")
    expect(verdict).to_be_visible()
    idle(page)

    chart = page.get_by_test_id("stPlotlyChart").first
    for name in ("GPU 0 · 80.0 GiB", "GPU 1 · 48.0 GiB", "GPU 2 · 24.0 GiB"):
        expect(chart.get_by_text(name)).to_be_visible()
    cells = chart.locator(".bars .point")
    expect(cells.nth(81)).to_be_attached()  # 80 blocks, embedding and head
    # fields and button stand in one row
    page.wait_for_function("document.querySelector('.st-key-plan_moves')?.getBoundingClientRect().height < 90")

    # a click on the last block selects it; the range is then widened by keyboard
    chart.locator(".bars .point", has_text=re.compile(r"^79$")).locator("path").click(force=True)
    first = page.get_by_role("spinbutton", name="from")
    expect(first).to_have_value("79")
    first.fill("78")
    first.press("Enter")
    idle(page)
    press(page.get_by_role("button", name="Move", exact=True))
    effect = page.get_by_text("Effect of the last change")
    expect(effect).to_contain_text("parts of the model that move: 2")
    expect(page.get_by_text("placed by hand")).to_be_visible()
    expect(page).to_have_url(re.compile("placement="))
    by_hand = page.url

    press(page.get_by_role("button", name="Undo"))
    expect(page.get_by_text("placed by hand")).to_have_count(0)
    expect(page).not_to_have_url(re.compile("placement="))

    with page.expect_download() as picture:
        press(page.get_by_role("button", name="Picture (PNG)"))
    assert Path(picture.value.path()).read_bytes().startswith(b"\x89PNG")

    press(page.get_by_role("tab", name="Device map"))
    with page.expect_download() as download:
        press(page.get_by_role("button", name="Download"))
    placed = json.loads(Path(download.value.path()).read_text("utf-8"))
    blocks = [name for name in placed if name.startswith("model.layers.")]
    assert sorted(blocks, key=lambda name: int(name.rpartition(".")[2])) == [f"model.layers.{i}" for i in range(80)]
    assert set(placed.values()) == {0, 1, 2}
    assert {"model.embed_tokens", "lm_head"} <= set(placed)

    # the address alone brings the placement made by hand back
    settled(page, by_hand)
    expect(page.get_by_text("placed by hand")).to_be_visible()


def test_what_does_not_fit_is_mended_by_the_first_button_without_another_click(
    shared_dashboard: Dashboard, page: Page
) -> None:
    page.goto(shared_dashboard.url + "/plan?model=HuggingFaceTB/SmolLM2-135M&gpus=4&batch_size=8")
    expect(page.get_by_test_id("stAlertContentError").get_by_text("It does not fit")).to_be_visible()
    best = page.locator(".st-key-plan_remedies")
    expect(best.get_by_text("fits with this")).to_be_visible()
    expect(best.get_by_role("button", name="Apply")).to_have_count(1)
    press(best.get_by_role("button", name="Apply"))
    expect(page.get_by_test_id("stAlertContentSuccess").get_by_text("It fits")).to_be_visible()
    expect(page.get_by_text("More ways to save memory")).to_have_count(0)
    expect(page.locator(".st-key-plan_figures").get_by_text("Largest batch")).to_be_visible()


def test_one_step_is_drawn_in_time_with_words_and_a_table(shared_dashboard: Dashboard, page: Page) -> None:
    page.goto(shared_dashboard.url + "/plan?model=HuggingFaceTB/SmolLM2-135M&gpus=2xRTX-4090&force_balance=true")
    expect(page.get_by_test_id("stAlertContentSuccess").get_by_text("It fits")).to_be_visible()
    idle(page)
    press(page.get_by_role("radio", name="Time"))
    lanes = page.get_by_role("group", name=re.compile(r"GPU 0 .*working \d+% of a step"))
    expect(lanes).to_be_visible()
    expect(page.get_by_text("This is an estimate: one step takes")).to_be_visible()
    expect(page).to_have_url(re.compile("view=time"))
    press(page.get_by_text("Show as a table"))
    expect(page.get_by_role("columnheader", name="backward")).to_be_visible()
