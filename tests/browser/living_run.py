"""A run in its training, for tests that look at its page meanwhile; and the chart on that page, as a hand moves it."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

from lora_backend.runs.checkpoints.manifest import write_manifest
from lora_backend.runs.record.process_identity import ProcessIdentity
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import add_point, make_run, set_status
from tests.waiting import until


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
    before = chart_range(page)
    box = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.3 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], y, steps=5)
    page.mouse.up()
    until(lambda: chart_range(page) != before, "the chart shows what was dragged over")
    return chart_range(page)
