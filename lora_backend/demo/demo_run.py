"""The demo's own run: prepare the model, learn the data set, answer the held-out questions."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from lora_backend.atomic import write_atomic
from lora_backend.config.config_text import ConfigDocument
from lora_backend.config.config_writing import dump_yaml
from lora_backend.demo.config import demo_config
from lora_backend.demo.model import prepare_demo_model
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.launching.launch import make_run, start_run
from lora_backend.launching.requests import StartOptions, StartRequest
from lora_backend.launching.run_config import bound_before
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.resolve import resolve
from lora_backend.runs.processes.trainer_command import demo_command
from lora_backend.runs.record.run_store import RunStore, new_run_id
from lora_backend.terminal import show

UNCHANGED: Mapping[str, object] = MappingProxyType({})
DEMO_NAME = "SmolLM2-135M · demo"
HEAD = """\
# The demo: SmolLM2-135M-Instruct learns the help desk of an invented product.
# Twelve facts, in English and Chinese.
# Start it from the dashboard's home page, or with: python -m lora_backend demo --train
"""


def demo_text(installation: Installation, changes: Mapping[str, object] = UNCHANGED) -> str:
    """The demo's config as a person would write it."""
    return HEAD + dump_yaml(demo_config(installation.cache) | dict(changes))


def prepare(installation: Installation) -> Path:
    """Make the demo's model ready and write its config into the workspace. Returns the config's path."""
    prepare_demo_model(installation.cache, lambda message, _: show(message, to_stderr=True))
    installation.workspace.mkdir(parents=True, exist_ok=True)
    path = installation.workspace / "demo.yaml"
    write_atomic(path.parent.resolve() / path.name, demo_text(installation))
    return path


def launch_demo(
    installation: Installation, actor: str | None = None, changes: Mapping[str, object] = UNCHANGED
) -> RunStore:
    """Start the demo in processes of its own; preparing the model is the first stage of its run. `changes`: other values
    than the demo's own."""
    path = installation.runs / new_run_id(installation.clock)
    return _make(path, installation, demo_command(path), actor, changes, start=True)


def demo_folder(installation: Installation, run_dir: Path | None) -> RunStore:
    """The run in `run_dir`, by default a new one; made where there is none."""
    folder = RunStore((run_dir or installation.runs / new_run_id(installation.clock)).resolve(), installation.clock)
    if not folder.run_json.exists():
        _make(folder.path, installation, sys.orig_argv, start=False)
    return folder


def train_demo(installation: Installation, run_dir: Path | None) -> RunStore:
    """Be the demo's trainer, in the foreground or for a run that is made. Returns the run, which has ended."""
    from lora_backend.trainer.session import training_session
    from lora_backend.training.recipe import train
    from lora_backend.training.run_context import run_stage

    folder = demo_folder(installation, run_dir)
    installation = installation.around(folder.path)

    def report(message: Message, fraction: float) -> None:
        with folder.changing_status() as status:
            status.attempt.detail, status.attempt.fraction = message, fraction
        show(message, to_stderr=True)

    with training_session(folder, installation):
        if run_stage(folder, "preparing", lambda: prepare_demo_model(installation.cache, report)):
            values, policy = folder.read_record().config, bound_before(folder, is_bound_in_publishing=False)
            resolved = resolve(values, installation, policy)
            resolved.validated()
            train(resolved, folder)
    return folder


def score_table(folder: RunStore) -> str:
    """Right answers by group, base model beside adapter."""
    answers = folder.read_answers()
    lines = [Message(N_("Right answers to questions that were not in the data:")).text()]
    for group in dict.fromkeys(row.group for row in answers):
        rows = [row for row in answers if row.group == group]
        values = {
            "group": group,
            "base": sum(bool(row.base_correct) for row in rows),
            "adapter": sum(bool(row.adapter_correct) for row in rows),
            "count": len(rows),
        }
        lines.append(
            "  "
            + Message(N_("{group}: base model {base} of {count}, with adapter {adapter} of {count}"), values).text()
        )
    return "\n".join(lines)


def _make(
    path: Path,
    installation: Installation,
    argv: list[str],
    actor: str | None = None,
    changes: Mapping[str, object] = UNCHANGED,
    *,
    start: bool,
) -> RunStore:
    text = demo_text(installation, changes)
    document = replace(ConfigDocument.of(demo_config(installation.cache) | dict(changes)), text=text)
    resolved = resolve(document, installation, AnyPath(installation.workspace))  # every path in it is absolute
    request = StartRequest(resolved, StartOptions(actor=actor), DEMO_NAME)
    return start_run(request, path, argv) if start else make_run(request, path, argv)
