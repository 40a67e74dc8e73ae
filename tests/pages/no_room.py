"""Everything that a page writes, tried on a disk that refuses it: what the page says then, as JSON, one entry a try.

`LD_PRELOAD=… FAULT_PATH=<workspace> FAULT_WHEN=<flag> [FAULT_ERRNO=…] python -m tests.pages.no_room <folder>`: a process of
its own, for in it the disk is full, or read-only, from the moment that the flag exists.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from lora_backend.config.drafts import Draft, delete_draft, new_draft
from lora_backend.errors import ModelError
from lora_backend.installation import this_installation
from lora_backend.planning.cost.profile import Profile
from lora_backend.runs.history.trash import Bin
from lora_backend.runs.processes.leases import release, take
from lora_backend.runs.processes.waiting import leases_folder
from lora_backend.runs.record.process_identity import identify
from lora_backend.runs.record.run_store import RunStore, list_runs
from pages.parts.draft import launch, session
from pages.parts.draft import table as table_runs
from pages.parts.run import resume as run_resume
from pages.parts.run.table import table_key
from tests.run_files import add_start, end_run, make_run, set_status

ROOT = Path(__file__).parents[2]
FLAG = Path(os.environ["FAULT_WHEN"])
LLAMA_FACTORY = b"model_name_or_path: m\nfinetuning_type: lora\nlora_rank: 8\nstage: sft\n"
Try = Callable[[], AppTest]


def visit(page: str, **query: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    if page != "home":
        at.switch_page(f"pages/{page}.py")
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception, at.exception
    return at


def said(at: AppTest) -> list[str]:
    return [str(element.value) for kind in ("error", "warning", "toast", "success") for element in at.get(kind)]


def draft(folder: Path, *texts: str) -> Draft:
    good = f"model_name: {folder / 'm'}\ndataset: a.jsonl\nr: 4\n"
    made = new_draft(this_installation().drafts, good)
    for text in texts:
        made.save(good + text)
    return made


def run(*, state: str = "failed", **more: Any) -> RunStore:
    made = make_run(this_installation().runs, config={"model_name": str(this_installation().data_roots[0] / "m"), "r": 4, "dataset": str(this_installation().data_roots[0] / "a.jsonl")}, config_text="model_name: m\nr: 4\n", argv=["true"], **more)  # fmt: skip
    add_start(made, device_uuids=[])
    if state == "running":
        me = identify(os.getpid())
        assert me is not None
        set_status(made, state="running", stage="training", trainer=me.to_json(), step=1, total_steps=9)
    else:
        end_run(made, state)
    return made


def chosen(at: AppTest, rows: int) -> AppTest:
    """Rows of the table, as the browser would choose them."""
    key = table_key(at.dataframe[0].value["ID"])
    at.session_state[key] = {"selection": {"rows": list(range(rows)), "columns": [], "cells": []}}
    return at.run()


def tries(folder: Path) -> dict[str, Callable[[], Try]]:
    """Name → what is made ready while there is room, which gives what is then tried."""

    def on(page: str, act: Callable[[AppTest], AppTest], **query: str) -> Try:
        at = visit(page, **query)
        return lambda: act(at)

    def on_draft(act: Callable[[AppTest, str], AppTest], *texts: str) -> Try:
        made = draft(folder, *texts)
        return on("config", lambda at: act(at, made.id), draft=made.id)

    def on_run(act: Callable[[AppTest, str], AppTest], **more: Any) -> Try:
        made = run(**more)
        return on("runs", lambda at: act(at, made.id), run=made.id)

    def on_table(act: Callable[[AppTest], AppTest]) -> Try:
        run()
        at = chosen(visit("runs"), 1)
        return lambda: act(at)

    def click(key: str) -> Callable[..., AppTest]:
        return lambda at, *_: at.button(key=key).click().run()

    def upload(at: AppTest, draft_id: str) -> AppTest:
        return at.file_uploader(key=f"data-{draft_id}").upload("b.jsonl", b'{"prompt": "a", "completion": "b"}\n').run()

    def compare(at: AppTest, draft_id: str) -> AppTest:
        at.text_area(key=f"base_text-{draft_id}").set_value(
            "import argparse\np = argparse.ArgumentParser()\np.add_argument('--r', default=8)\n"
        ).run()
        return at.button(key="use_base").click().run()

    def tag_of_table(at: AppTest) -> AppTest:
        next(field for field in at.text_input if "commas" in field.label).set_value("x")
        return next(button for button in at.button if button.label == "Apply to the selected runs").click().run()

    def launched_table() -> Try:
        made = draft(folder)
        at = visit("config", draft=made.id)
        at.text_area(key=f"table-{made.id}").set_value("r\n8\n16\n").run()
        return lambda: at.button(key="start_table").click().run()

    def binned(key: str) -> Try:
        made = run()
        Bin(this_installation().workspace).delete(made)
        at = visit("runs")
        if key == "empty_bin":
            at.checkbox(key="empty_sure").check().run()
        return lambda: at.button(key=key if key == "empty_bin" else f"{key}-{made.id}").click().run()

    def deleted_draft() -> Try:
        made = draft(folder)
        at = visit("config")
        delete_draft(this_installation().drafts, made.id)
        at.session_state[session.DELETED_DRAFTS] = [made.id]
        at.run()
        return lambda: at.button(key="restore_draft").click().run()

    def drafts_delete() -> Try:
        made = draft(folder)
        at = visit("config")
        return lambda: at.button(key=f"delete-{made.id}").click().run()

    def a_file(name: str, data: bytes, key: str | None = None) -> Try:
        at = visit("config")
        if key is None:
            return lambda: at.file_uploader(key="config_file").upload(name, data).run()
        at.file_uploader(key="config_file").upload(name, data).run()
        return lambda: at.button(key=key).click().run()

    def text(at: AppTest, draft_id: str) -> AppTest:
        return at.text_area(key=f"text-{draft_id}-0").set_value("r: 5\n").run()

    def field(at: AppTest, draft_id: str) -> AppTest:
        return next(item for item in at.number_input if item.label == "r").set_value(8).run()

    def toggle_pin(at: AppTest, run_id: str) -> AppTest:
        return at.toggle(key=f"pinned-{run_id}").set_value(True).run()

    def note(at: AppTest, run_id: str) -> AppTest:
        return at.text_area(key=f"note-{run_id}").set_value("n").run()

    def tags(at: AppTest, run_id: str) -> AppTest:
        at.multiselect(key=f"tags-{run_id}").set_value([])  # a new one cannot be typed in AppTest
        at.session_state[f"tags-{run_id}"] = ["new"]
        return at.run()

    def see(page: str, **query: str) -> Try:
        return lambda: visit(page, **query)

    return {
        "blank draft": lambda: on("config", click("blank")),
        "demo draft": lambda: on("config", click("preset-demo")),
        "preset": lambda: on("config", lambda at: next(b for b in at.button if str(b.key).startswith("preset-")).click().run()),
        "uploaded config": lambda: a_file("mine.yaml", b"model_name: m\n"),
        "import": lambda: a_file("lf.yaml", LLAMA_FACTORY, "open_import"),
        "open as it is": lambda: a_file("lf.yaml", LLAMA_FACTORY, "open_as_is"),
        "text": lambda: on_draft(text),
        "field": lambda: on_draft(field),
        "undo": lambda: on_draft(click("undo"), "alpha: 8\n"),
        "fix": lambda: on_draft(lambda at, _: next(b for b in at.button if str(b.key).startswith("fix-error")).click().run(), "lora_rank: 4\n"),
        "data": lambda: on_draft(upload),
        "compare": lambda: on_draft(compare),
        "table": lambda: on_draft(lambda at, i: at.text_area(key=f"table-{i}").set_value("r\n8\n").run()),
        "start table": launched_table,
        "launch": lambda: on_draft(click("launch")),
        "delete draft": drafts_delete,
        "restore draft": deleted_draft,
        "stop": lambda: on_run(click("stop_run"), state="running"),
        "save checkpoint": lambda: on_run(click("save_run"), state="running"),
        "pin": lambda: on_run(toggle_pin),
        "note": lambda: on_run(note),
        "resume": lambda: on_run(click("resume_run")),
        "open as draft": lambda: on_run(click("clone_run")),
        "pin in table": lambda: on_table(click("pin_runs")),
        "archive": lambda: on_table(click("archive_runs")),
        "delete": lambda: on_table(click("delete_runs")),
        "tags in table": lambda: on_table(tag_of_table),
        "put back": lambda: binned("restore"),
        "empty bin": lambda: binned("empty_bin"),
        "demo": lambda: on("home", click("start_demo")),
        **{f"page {name}": (lambda name=name: see(name)) for name in ("home", "config", "plan", "runs", "verify")},  # type: ignore[misc]
        "page of a run": lambda: see("runs", run=run().id),
        "page of a run that goes on": lambda: see("runs", run=run(state="running").id),
        "page of a draft": lambda: see("config", draft=draft(folder).id),
        "in Chinese": lambda: see("runs", lang="zh"),
    }  # fmt: skip


def no_trace(*_: object) -> Profile:
    raise ModelError("no trace here, so there is no plan")


def main(folder: Path) -> None:
    for module in (launch, table_runs, run_resume):
        module.trace_within = lambda status: no_trace  # type: ignore[attr-defined]
    leases = take(
        leases_folder(this_installation().workspace), ["cpu"], folder / "other"
    )  # so that what is launched waits
    assert leases
    found: dict[str, Any] = {}
    for name, ready in tries(folder).items():
        try:
            attempt = ready()
            before = (
                {path.name for path in this_installation().runs.iterdir()}
                if this_installation().runs.is_dir()
                else set()
            )
            FLAG.touch()
            at = attempt()
            found[name] = {"exception": [str(one.value) for one in at.exception], "said": said(at)}
        except Exception as error:  # of the try itself, which the test then shows
            found[name] = {"exception": [f"{type(error).__name__}: {error}"], "said": []}
        finally:
            FLAG.unlink(missing_ok=True)
        after = (
            {path.name for path in this_installation().runs.iterdir()} if this_installation().runs.is_dir() else set()
        )
        found[name]["new runs"] = sorted(after - before)
        for one in list_runs(this_installation().runs):
            if not one.exit_json.exists():
                end_run(one, "stopped")
    release(leases)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
