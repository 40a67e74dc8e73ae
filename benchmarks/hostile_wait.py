"""How long another session waits while one opens what was made to keep everybody waiting (target: 2 s).

One dashboard, two sessions. One opens hostile drafts, adapters, models, files and links; the other asks for an ordinary
page again and again for as long as that takes, at most `WATCHED_S` for each. What counts is its longest wait.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.noise import median_and_spread
from benchmarks.session import Session
from lora_backend.config.drafts import new_draft
from tests.browser.conftest import Dashboard, free_port
from tests.hostile import HOSTILE_ADDRESSES, HOSTILE_FILES, HOSTILE_MODELS, SLOW_EXPRESSIONS
from tests.tiny import make_model
from tests.verification.slow import adapter

WATCHED_S = 3.0
Address = tuple[str, str, dict[str, str]]
"""Title, page, parameters."""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        dashboard = Dashboard(Path(name), free_port())
        dashboard.start()
        try:
            _measure(dashboard)
        finally:
            dashboard.kill()


def _measure(dashboard: Dashboard) -> None:
    model = make_model(dashboard.home / "model")
    ordinary = _draft(dashboard, f"model_name: {model}\nr: 8\nrank_pattern: {{q_proj: 4}}\n")
    other = Session(dashboard.port)
    for _ in range(3):
        other.run("config", draft=ordinary)
    quiet: list[float] = []
    waits: dict[str, float] = {}
    for title, page, params in _hostile(dashboard, model):
        quiet.append(other.run("config", draft=ordinary))
        hostile = Session(dashboard.port)
        hostile.post(page, **params)
        began, waits[title], is_made = time.monotonic(), 0.0, False
        while not waits[title] or not (is_made or time.monotonic() - began > WATCHED_S):
            waits[title] = max(waits[title], other.run("config", draft=ordinary))
            is_made = hostile.wait(0.01)
        if not is_made:
            hostile.wait(60.0)  # the next one is alone again
        hostile.close()
    worst = sorted(waits, key=lambda title: waits[title])[-3:]
    print(f"an ordinary config page between them, nobody else there: {median_and_spread(quiet, 's')}")
    print(
        f"the same page while another session opens something hostile: {median_and_spread(list(waits.values()), 's')}"
    )
    print(f"{len(waits)} hostile inputs, longest wait {max(waits.values()):.3g} s (target 2 s)")
    print("the longest: " + "; ".join(f"{title} {waits[title]:.3g} s" for title in reversed(worst)), flush=True)


def _hostile(dashboard: Dashboard, model: Path) -> Iterator[Address]:
    """Every hostile input, put where a browser may open it."""
    half = len(SLOW_EXPRESSIONS) // 2
    for number, pattern in enumerate(SLOW_EXPRESSIONS):
        config = {"rank_pattern": {pattern: 8}} if number % 2 else {"target_modules": pattern}
        if number < half:
            text = json.dumps({"model_name": str(model)} | config)
            yield f"a draft with expression {number}", "config", {"draft": _draft(dashboard, text)}
        else:
            folder = adapter(dashboard.home / f"adapter-{number}", **config)
            yield f"an adapter with expression {number}", "verify", {"adapter": str(folder)}
    for number, (title, facts) in enumerate(HOSTILE_MODELS.items()):
        folder = dashboard.home / f"model-{number}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(facts))
        yield f"a model with {title}", "plan", {"model": str(folder)}
    for number, (title, (name, data)) in enumerate(HOSTILE_FILES.items()):
        path = dashboard.workspace / f"{number}-{name}"
        path.write_bytes(data)
        params = {"adapter": str(dashboard.home / f"adapter-{half}"), "config": str(path)}
        yield f"a file: {title}", "verify", params
    for title, (page, params) in HOSTILE_ADDRESSES.items():
        yield f"a link: {title}", page, params


def _draft(dashboard: Dashboard, text: str) -> str:
    return new_draft(dashboard.workspace / "drafts", text).id
