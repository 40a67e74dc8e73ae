"""A run that ends while somebody looks at its page: nothing jumps, nothing stands double."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from lora_backend.runs.checkpoints.manifest import write_manifest
from lora_backend.runs.record.process_identity import ProcessIdentity, identify
from lora_backend.runs.record.run_store import RunStore
from tests.browser.conftest import Dashboard, badge, idle, press, settled
from tests.run_files import add_point, end_run, make_run, set_status

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

WATCH = """() => {
  window.most = {};
  const look = () => {
    const seen = {};
    for (const word of ["Save and stop", "Save a checkpoint now", "Open as a draft"]) {
      const buttons = [...document.querySelectorAll("button")];
      seen[word] = buttons.filter(one => one.innerText.includes(word) && one.checkVisibility()).length;
    }
    seen.tabs = document.querySelectorAll("[role=tablist]").length;
    seen.both = Math.min(seen["Save and stop"], seen["Open as a draft"]);
    for (const [word, count] of Object.entries(seen)) window.most[word] = Math.max(window.most[word] ?? 0, count);
    requestAnimationFrame(look);
  };
  look();
}"""


@pytest.fixture
def trainer() -> Iterator[ProcessIdentity]:
    """A process that lives."""
    process = subprocess.Popen(["sleep", "600"])
    identity = identify(process.pid)
    assert identity
    yield identity
    process.kill()
    process.wait()


def living(workspace: Path, trainer: ProcessIdentity) -> RunStore:
    """A run in its training."""
    run = make_run(workspace / "runs", config={"model_name": "m"}, config_text="", argv=["true"])
    for step in range(1, 41):
        add_point(
            run, {"step": step, "loss": 2 / step + 0.5, "learning_rate": 1e-4, "grad_norm": 1.0, "time": float(step)}
        )
    run.train_log.write_text("a line of the log\n")
    processes = {"trainer": trainer.to_json(), "supervisor": trainer.to_json()}
    set_status(run, state="running", stage="training", step=40, total_steps=80, **processes)
    return run


def save(run: RunStore, step: int) -> None:
    path = run.checkpoints / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_bytes(b"x" * 1000)
    write_manifest(path, step)


def chart_range(page: Page) -> list[float]:
    return [
        round(edge, 3)
        for edge in page.locator(".js-plotly-plot").first.evaluate("plot => plot._fullLayout.xaxis.range")
    ]


def zoom(page: Page) -> list[float]:
    """Drag over the middle of the loss chart; the steps that it shows then."""
    box = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.3 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], y, steps=5)
    page.mouse.up()
    return chart_range(page)


def test_a_run_that_ends_leaves_the_open_tab_and_shows_no_button_twice(
    shared_dashboard: Dashboard, page: Page, trainer: ProcessIdentity
) -> None:
    run = living(shared_dashboard.workspace, trainer)
    settled(page, f"{shared_dashboard.url}/runs?run={run.id}")
    expect(page.locator(".js-plotly-plot .legendtext", has_text="Loss").first).to_be_visible()
    zoomed = zoom(page)
    assert zoomed[0] > 5
    page.get_by_role("tab", name="Log").click()
    expect(page.get_by_text("a line of the log")).to_be_visible()
    page.evaluate(WATCH)
    end_run(run, "stopped")
    expect(badge(page, "Stopped")).to_be_visible()
    expect(page.get_by_text("The run has stopped.")).to_be_visible()
    idle(page)
    expect(page.get_by_role("tab", name="Log")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_text("a line of the log")).to_be_visible()
    assert page.evaluate("() => window.most") == {
        "Save and stop": 1,
        "Save a checkpoint now": 1,
        "Open as a draft": 1,
        "tabs": 1,
        "both": 0,
    }
    page.get_by_role("tab", name="Curves").click()
    assert chart_range(page) == zoomed


def test_a_checkpoint_that_is_asked_for_is_answered_marked_and_listed(
    shared_dashboard: Dashboard, page: Page, trainer: ProcessIdentity
) -> None:
    run = living(shared_dashboard.workspace, trainer)
    settled(page, f"{shared_dashboard.url}/runs?run={run.id}")
    title = page.get_by_test_id("stMain").locator("h1")
    page.get_by_role("link", name="All runs").wait_for()  # above the title, and drawn a moment later
    place = title.bounding_box()
    press(page.get_by_role("button", name="Save a checkpoint now"))
    expect(page.get_by_text("Checkpoint requested.")).to_be_visible()
    assert title.bounding_box() == place
    expect(page.get_by_role("button", name="Saving after this step")).to_be_disabled()
    save(run, 40)
    run.save_request.unlink()
    expect(page.get_by_text("Checkpoint saved at step 40.")).to_be_visible()
    expect(page.get_by_text("last checkpoint at step 40")).to_be_visible()
    expect(page.get_by_role("button", name="Save a checkpoint now")).to_be_enabled()
    expect(page.locator(".js-plotly-plot .legendtext", has_text="Checkpoint")).to_be_visible()
    assert page.locator(".js-plotly-plot").first.evaluate("plot => plot.layout.shapes.map(one => one.x0)") == [40]
    page.get_by_role("tab", name="Checkpoints").click()
    expect(page.get_by_text("Resume goes on from the newest one that is whole.")).to_be_visible()
