"""A stranger's walk in a real browser: config → launch → run → verify, on a tiny real model."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]
from PIL import Image
from playwright.sync_api import Locator, Page

from lora_backend.formats import size
from lora_backend.installation import this_installation
from lora_backend.preflight.plan_vs_measured import compare
from lora_backend.runs.checkpoints.manifest import checkpoints_of
from lora_backend.runs.record.run_store import list_runs
from tests.browser.conftest import Dashboard, badge, idle, press, run_of, settled, trained_here
from tests.browser.patience import expect
from tests.run_files import points_of, record_of
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

CONFIG = """\
# a run for the walk
model_name: {model}
dataset: chats.jsonl
r: 4
alpha: 8
num_epochs: {epochs}
learning_rate: 2e-3
seed: 42
batch_size: 4
precision: fp32
val_size: 0.2
eval_strategy: epoch
logging_steps: 1
check_r_consistency: true
strict_r_check: true
"""


def red_pixels(table: Locator) -> int:
    """How many pixels of a picture of the table are clearly more red than green and blue."""
    pixels = np.asarray(Image.open(io.BytesIO(table.screenshot())).convert("RGB")).astype(int)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return int(((red > green + 20) & (red > blue + 20)).sum())


def open_draft(page: Page, dashboard: Dashboard, tmp_path: Path, epochs: int) -> None:
    """Upload a config, as a person would."""
    file = tmp_path / "walk.yaml"
    file.write_text(CONFIG.format(model=dashboard.home / "tiny-model", epochs=epochs))
    settled(page, dashboard.url)
    page.get_by_role("link", name="Config", exact=True).click()
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(file)
    expect(page.get_by_role("button", name="Launch")).to_be_visible()
    expect(page).to_have_url(re.compile("draft="))
    idle(page)


def test_from_home_to_a_verified_adapter(shared_tiny: Dashboard, page: Page, tmp_path: Path) -> None:
    open_draft(page, shared_tiny, tmp_path, epochs=6)
    expect(page.get_by_text("No problems found.")).to_be_visible()
    expect(page.get_by_role("cell", name="learning_rate").first).to_be_visible()

    # the address alone brings the draft back
    page.reload()
    press(page.get_by_role("tab", name="Text"))
    expect(page.get_by_role("textbox", name="YAML; comments and order are kept")).to_have_value(
        re.compile("# a run for the walk")
    )

    press(page.get_by_role("button", name="Launch"))
    run = run_of(page, shared_tiny)
    expect(badge(page, "Finished")).to_be_visible()
    expect(page.get_by_text(re.compile(r"Step 24 of 24 · took"))).to_be_visible()
    idle(page)
    expect(page.locator(".fd-chart .js-plotly-plot").first).to_be_visible()
    press(page.get_by_role("tab", name="Memory"))
    expect(page.get_by_text("Planned at most, for the longest rows")).to_be_visible()
    expect(page.get_by_text("Measured in step 2")).to_be_visible()
    (compared,) = compare(run.read_attempt(), run.read_record().config, this_installation(shared_tiny.environment()))
    assert compared.difference is not None
    assert abs(compared.difference) <= 0.03, "planned beside measured, for the rows that the step really had"
    expect(page.get_by_text(f"{100 * compared.difference:+.1f}%")).to_be_visible()
    planned = page.get_by_test_id("stMetric").filter(has_text="Planned for step 2")
    expect(planned).to_contain_text(size(compared.expected_bytes))
    assert (compared.measured_bytes or 0) < compared.planned_at_most, "the worst case is told apart from that step"
    press(page.get_by_role("tab", name="Ranks"))
    verdict = page.get_by_test_id("stAlertContentSuccess").get_by_text("14 of 14 LoRA layers have the expected rank")
    expect(verdict).to_be_visible()

    press(page.get_by_role("link", name="Check the saved adapter"))
    page.wait_for_url(re.compile(r"/verify\?.*run="))
    expect(verdict).to_be_visible()
    idle(page)
    press(page.get_by_role("tab", name="Provenance"))
    expect(page.get_by_text("Everything matches, and the adapter is unchanged.")).to_be_visible()
    press(page.get_by_role("tab", name="Loaded in memory"))
    press(page.get_by_role("button", name="Load and check"))
    expect(page.get_by_text("Checked.")).to_be_visible()
    expect(verdict).to_have_count(2)


def test_a_broken_tensor_turns_its_row_and_the_verdict(shared_tiny: Dashboard, page: Page) -> None:
    from safetensors.torch import load_file, save_file

    from tests.verification.reports import folder_report

    values = yaml.safe_load(CONFIG.format(model=shared_tiny.home / "tiny-model", epochs=1))
    run = trained_here(shared_tiny, values | {"dataset": str(shared_tiny.home / "chats.jsonl"), "learning_rate": 2e-3})
    address = f"{shared_tiny.url}/verify?run={run.id}"
    settled(page, address)
    expect(page.get_by_text("14 of 14 LoRA layers have the expected rank")).to_be_visible()
    table = page.get_by_test_id("stDataFrame").first
    expect(table).to_be_visible()
    assert red_pixels(table) == 0

    file = run.adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    key = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
    save_file(tensors | {key: tensors[key][:2].contiguous()}, file)
    settled(page, address)
    expect(page.get_by_text("1 of 14 LoRA layers has the wrong rank")).to_be_visible()
    press(page.get_by_text("Problems only"))
    tables = page.get_by_test_id("stDataFrame")
    until(lambda: any(red_pixels(found) > 1_000 for found in tables.all()), "its row is red")
    # The grid is a canvas; what it was given is checked where it can be read.
    bad = [row for row in folder_report(run.adapter, record_of(run)["config"])["layers"] if row["state"] != "ok"]
    assert [(row["name"], row["state"], row["a_r"], row["b_r"]) for row in bad] == [
        ("model.layers.1.self_attn.q_proj", "a_against_b", 2, 4)
    ]
    press(page.get_by_role("tab", name="Provenance"))
    expect(page.get_by_text("Not what the adapter was trained with: Tensors.")).to_be_visible()


def test_two_clicks_on_launch_are_one_run_that_can_be_stopped(
    shared_tiny: Dashboard, page: Page, tmp_path: Path
) -> None:
    before = {run.id for run in list_runs(shared_tiny.workspace / "runs")}
    open_draft(page, shared_tiny, tmp_path, epochs=100_000)
    page.get_by_role("button", name="Launch").dblclick()
    run = run_of(page, shared_tiny)
    expect(page.get_by_text(re.compile(r"Step [1-9]\d* of"))).to_be_visible()
    assert {one.id for one in list_runs(shared_tiny.workspace / "runs")} - before == {run.id}

    press(page.get_by_role("tab", name="Log"))
    press(page.get_by_role("button", name="Save and stop"))
    expect(badge(page, "Stopped")).to_be_visible()
    idle(page)
    expect(page.get_by_role("tab", name="Log")).to_have_attribute("aria-selected", "true")
    (checkpoint,) = run.checkpoints.iterdir()
    assert (checkpoint / "adapter" / "adapter_model.safetensors").stat().st_size > 0


TABLE = "name\tseed\tnum_epochs\nlong\t1\t100000\nshort\t2\t1\nother\t3\t1"


def choose_rows(page: Page, *rows: int) -> None:
    """Click the boxes at the left edge of the table, which is drawn on a canvas."""
    box = page.get_by_test_id("stDataFrame").bounding_box()
    assert box is not None
    for row in rows:
        page.mouse.click(box["x"] + 15, box["y"] + 35 * (row + 1) + 18)
        idle(page)


def test_three_runs_from_a_table_are_watched_stopped_resumed_and_compared(
    tiny: Dashboard, page: Page, tmp_path: Path
) -> None:
    open_draft(page, tiny, tmp_path, epochs=1)
    press(page.get_by_text("Runs from a table"))
    page.get_by_label("Paste a table: from a spreadsheet, or CSV").fill(TABLE)
    page.keyboard.press("Control+Enter")
    press(page.get_by_role("button", name="Start 3 runs"))
    page.wait_for_url(re.compile(r"/runs\?.*filter=table-"))
    table = page.url
    runs = {record_of(run)["name"]: run for run in list_runs(tiny.workspace / "runs")}
    assert set(runs) == {"long", "short", "other"}
    expect(page.get_by_text("2 runs are waiting for their turn.")).to_be_visible()
    press(page.get_by_role("link", name="long"))
    page.wait_for_url(re.compile("run="))
    idle(page)  # until then the row of the table's page may still be there
    expect(page.get_by_text(re.compile(r"Step [1-9]\d* of"))).to_be_visible()
    watched = page.url
    press(page.get_by_role("button", name="Save a checkpoint now"))
    asked = runs["long"]
    until(lambda: asked.save_request.exists() or checkpoints_of(asked), "it was asked before the page is left")

    settled(page, f"{tiny.url}/runs?run={runs['short'].id}")
    expect(badge(page, "Queued")).to_be_visible()
    expect(page.get_by_text(f"{runs['long'].id} has its device.")).to_be_visible()

    tiny.kill()
    before = runs["long"].state()
    assert before.state == "running"
    until(lambda: runs["long"].state().step > before.step, "it goes on while nobody watches")
    tiny.start()
    settled(page, watched)
    expect(badge(page, "Running")).to_be_visible()
    press(page.get_by_role("button", name="Save and stop"))
    expect(badge(page, "Stopped")).to_be_visible()
    assert len(checkpoints_of(runs["long"])) >= 2, "the one that was asked for, and the one of the stop"
    stopped_at = runs["long"].state().step

    settled(page, f"{tiny.url}/runs?run={runs['other'].id}")
    expect(badge(page, "Finished")).to_be_visible()
    assert runs["short"].state().state == "finished", "they came in the table's order"

    settled(page, watched)
    press(page.get_by_role("button", name="Resume", exact=True))
    expect(badge(page, "Running")).to_be_visible()
    until(lambda: runs["long"].state().step > stopped_at, "it goes on behind the step where it was stopped", 120.0)
    press(page.get_by_role("button", name="Save and stop"))
    expect(badge(page, "Stopped")).to_be_visible()
    assert runs["long"].state().step > stopped_at
    steps = [row["step"] for row in points_of(runs["long"]) if "loss" in row]
    assert steps == list(range(1, steps[-1] + 1)), "no point of the curve is missing or there twice"

    settled(page, table)
    choose_rows(page, 0, 1)
    press(page.get_by_role("link", name="Compare 2 runs"))
    expect(page.get_by_text("Config differences")).to_be_visible()
    expect(page.locator(".js-plotly-plot .legendtext")).to_have_count(2)
