"""A run's page at a glance: while it goes on and after its end the first screen says how it is and what can be done."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page

from lora_backend.runs.record.process_identity import ProcessIdentity
from lora_backend.runs.record.run_store import RunStore
from tests.browser.conftest import Dashboard, press, settled
from tests.browser.patience import expect
from tests.run_files import add_point, end_run, make_run, put_answers, set_status
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def begun(workspace: Path, name: str) -> RunStore:
    run = make_run(workspace / "runs", config={"model_name": "m"}, config_text="r: 4\n", argv=["true"], name=name)
    for step in range(1, 22):
        add_point(run, {"step": step, "loss": 2 / step, "learning_rate": 1e-4, "grad_norm": 1.0, "time": float(step)})
    return run


def finished(workspace: Path) -> RunStore:
    run = begun(workspace, "done")
    run.adapter.mkdir()
    (run.adapter / "adapter_config.json").write_text("{}")
    (run.adapter / "adapter_model.safetensors").write_bytes(b"x" * 2048)
    (run.adapter / "optimizer.pt").write_bytes(b"no part of it")
    put_answers(
        run, [{"question": "How tall?", "group": "english", "base_answer": "low", "base_correct": False, "adapter_answer": "high", "adapter_correct": True}]
    )  # fmt: skip
    end_run(run, "finished")
    return run


def is_on_first_screen(page: Page, shown: Locator) -> bool:
    box, size = shown.bounding_box(), page.viewport_size
    assert box is not None
    assert size is not None
    return bool(box["y"] + box["height"] <= size["height"] and box["x"] + box["width"] <= size["width"])


def metric(page: Page, label: str) -> Locator:
    return page.get_by_test_id("stMetric").filter(has_text=label).first


@pytest.mark.parametrize("width", [1280, 400])
def test_what_came_of_a_run_and_the_next_step_stand_on_the_first_screen(
    shared_dashboard: Dashboard, page: Page, width: int
) -> None:
    run = finished(shared_dashboard.workspace)
    page.set_viewport_size({"width": width, "height": 800})
    settled(page, f"{shared_dashboard.url}/runs?run={run.id}")
    button = page.get_by_role("button", name="Try it").first
    expect(button).to_be_visible()
    for shown in (button, metric(page, "Loss").get_by_text("2 → 0.0952"), metric(page, "right answers").get_by_text("1 / 1")):  # fmt: skip
        expect(shown).to_be_visible()
        until(partial(is_on_first_screen, page, shown), "it stands on the first screen")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_finished_run_gives_its_adapter_and_a_report_that_loads_nothing(
    shared_dashboard: Dashboard, page: Page, tmp_path: Path
) -> None:
    run = finished(shared_dashboard.workspace)
    settled(page, f"{shared_dashboard.url}/runs?run={run.id}")
    with page.expect_download() as adapter:
        press(page.locator(".st-key-download_adapter button"))
    adapter.value.save_as(tmp_path / "adapter.zip")
    assert zipfile.ZipFile(tmp_path / "adapter.zip").namelist() == ["adapter_config.json", "adapter_model.safetensors"]
    with page.expect_download() as report:
        press(page.get_by_role("button", name="Download report").first)
    report.value.save_as(tmp_path / "report.html")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())
    expect(page.get_by_role("heading", name="done")).to_be_visible()
    expect(page.locator("svg").first).to_be_visible()
    page.get_by_text("1 question").click()
    expect(page.get_by_text("✓ high")).to_be_visible()
    assert asked == [(tmp_path / "report.html").as_uri()]


def test_the_browsers_tab_says_how_far_a_run_is_and_the_stop_is_the_one_main_act(
    shared_dashboard: Dashboard, page: Page, trainer: ProcessIdentity
) -> None:
    run = begun(shared_dashboard.workspace, "going")
    processes = {"trainer": trainer.to_json(), "supervisor": trainer.to_json()}
    set_status(run, state="running", stage="training", step=21, total_steps=50, **processes)
    settled(page, f"{shared_dashboard.url}/runs?run={run.id}")
    expect(page).to_have_title("42% · going · LoRA Flightdeck")
    main = page.get_by_test_id("stBaseButton-primary")
    expect(main).to_have_count(1)
    expect(main).to_contain_text("Save and stop")
    set_status(run, step=25)
    expect(page).to_have_title("50% · going · LoRA Flightdeck")
    end_run(run, "stopped")
    expect(page).to_have_title("going · LoRA Flightdeck")
