"""Pages through Streamlit's own AppTest, and what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from lora_backend.installation import this_installation
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import end_run, make_run

ROOT = Path(__file__).parents[2]

PAGES = ("home", "config", "data", "models", "plan", "playground", "runs", "verify")


def show(page: str, /, **query: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    if "lang" in query:  # a session keeps the language that it began with
        at.query_params["lang"] = query["lang"]
    at.run()
    if page != "home":
        at.switch_page(f"pages/{page}.py")
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception, at.exception
    return at


def texts(at: AppTest) -> str:
    kinds = (
        "title",
        "header",
        "subheader",
        "markdown",
        "caption",
        "info",
        "warning",
        "error",
        "success",
        "text",
        "code",
    )
    return "\n".join(str(element.value) for kind in kinds for element in at.get(kind))


def finished_run(**files: str) -> RunStore:
    run = make_run(
        this_installation().runs, config={"model_name": "m", "r": 4}, config_text="model_name: m\n", argv=None
    )
    for name, text in files.items():
        (run.path / name.replace("__", ".")).write_text(text, "utf-8")
    end_run(run, "finished")
    return run


def charts(at: AppTest) -> list[dict[str, Any]]:
    """The figures of the page's charts, as plotly.js gets them."""
    mounted = [element.proto for element in at.get("bidi_component")]
    return [json.loads(json.loads(one.json)["figure"]) for one in mounted if one.component_name == "flightdeck.chart"]
