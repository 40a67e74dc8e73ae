"""A value's way from a field of the form to the optimizer: which files hand it on, and that the design's picture says so."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from pydantic import BaseModel

from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.drafts import new_draft
from lora_backend.installation import this_installation
from lora_backend.modeling.profiling import profile_for
from lora_backend.runs.record.run_store import list_runs
from lora_backend.runs.record.transitions import move
from lora_backend.trainer.direct_run import train_in_folder
from tests.conftest import Make
from tests.pages.screens import show, texts

ROOT = Path(__file__).parents[2]
TYPED = 0.0123
"""What is typed as `learning_rate`; nothing else has this value."""
MOST_FILES = 12
UNTIL_LAUNCHED = (
    ("pages.parts.draft.edit", "with_values"),
    ("lora_backend.config.drafts", "write_atomic"),
    ("pages.parts.draft.launch", "parse_config"),
    ("pages.parts.draft.launch", "resolve"),
    ("lora_backend.runs.record.transitions", "write_json"),
)
"""Where the value becomes something else: text, a parsed document, bound paths, a file."""
UNTIL_TRAINED = (
    ("lora_backend.trainer.direct_run", "RunStore.config_as_changed"),
    ("lora_backend.trainer.direct_run", "resolve"),
    ("lora_backend.training.assembly", "make_optimizer"),
)
"""The same in the trainer: what the file says, a config that is resolved, an optimizer."""
GROUND_FLOOR = {"lora_backend/atomic.py"}
"""Writes whatever it is given."""


def holds(thing: Any, depth: int = 6) -> bool:
    """Whether the value is somewhere in it."""
    if isinstance(thing, float | str):
        return thing == TYPED or (isinstance(thing, str) and str(TYPED) in thing)
    if depth and isinstance(thing, dict):
        return any(holds(part, depth - 1) for part in thing.values())
    if depth and isinstance(thing, list | tuple):
        return any(holds(part, depth - 1) for part in thing)
    if depth and (isinstance(thing, BaseModel) or dataclasses.is_dataclass(thing)) and not isinstance(thing, type):
        return any(holds(part, depth - 1) for part in vars(thing).values())
    return False


def files_below(frame: FrameType | None) -> set[str]:
    """Files of those functions on the stack that were handed the value by one another, and of the one that got it by itself."""
    found: set[str] = set()
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and holds(dict(frame.f_locals)):
            found.add(str(path.relative_to(ROOT)))
            code = frame.f_code
            given = (*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount], *code.co_freevars)
            if not any(holds(frame.f_locals.get(name)) for name in given):
                break
        frame = frame.f_back
    return found - {"tests/training/test_key_walk.py"}


def watched(step: Callable[..., Any], files: set[str]) -> Callable[..., Any]:
    @functools.wraps(step)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        if holds([args, kwargs]) or holds(result):
            own = str(Path(step.__code__.co_filename).relative_to(ROOT))
            files.update({own, *files_below(sys._getframe(1))})
        return result

    return call


def watch(steps: tuple[tuple[str, str], ...], files: set[str], patch: pytest.MonkeyPatch) -> None:
    """Let every step that sees the value say by which files it came."""
    for module, name in steps:
        *owner, name = name.split(".")
        place: Any = functools.reduce(getattr, owner, importlib.import_module(module))
        patch.setattr(place, name, watched(getattr(place, name), files))


def files_in_the_picture() -> set[str]:
    """Of the walk in docs/design.md, but the one that draws the field."""
    text = (ROOT / "docs/design.md").read_text().split("## A key, from form to trainer")[1].split("```")[1]
    named = set(re.findall(r"[a-z_]+(?:/[a-z_]+)+\.py", text))
    assert "pages/parts/draft/fields.py" in named
    return {name if name.startswith("pages/") else f"lora_backend/{name}" for name in named} - {
        "pages/parts/draft/fields.py"
    }


def test_a_key_passes_at_most_twelve_files_and_the_picture_names_them(
    config: Make, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHTDECK_MODEL_ROOTS", str(tiny_model.parent))
    monkeypatch.setattr("lora_backend.launching.launch.start_or_queue", lambda *_: None)  # this process trains
    monkeypatch.setattr("pages.parts.draft.launch.trace_within", lambda _: profile_for)
    draft = new_draft(this_installation().drafts, dump_yaml(config(num_epochs=1, batch_size=16)))
    files: set[str] = set()
    at = show("config", draft=draft.id)
    with pytest.MonkeyPatch.context() as patch:
        watch(UNTIL_LAUNCHED, files, patch)
        next(field for field in at.number_input if field.label == "learning_rate").set_value(TYPED).run()
        assert not at.button(key="launch").disabled, texts(at)
        at.button(key="launch").click().run()
    (run,) = list_runs(this_installation().runs)
    move(run, "queued", "starting")
    with pytest.MonkeyPatch.context() as patch:
        watch(UNTIL_TRAINED, files, patch)
        train_in_folder(run)
    assert run.state().state == "finished"
    handed_on = files - GROUND_FLOOR
    assert handed_on == files_in_the_picture()
    assert len(handed_on) <= MOST_FILES
