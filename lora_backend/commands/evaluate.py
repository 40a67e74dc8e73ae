"""`evaluate`: loss and right answers of adapters beside their base model, as a job in the foreground or of its own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lora_backend.chats.documents import Sampling
from lora_backend.commands.job import in_foreground
from lora_backend.commands.subjects import Subject, adapter_of
from lora_backend.commands.words import print_json, setting
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation, this_installation
from lora_backend.launching.evaluation_request import AskedFor, evaluate_request
from lora_backend.launching.jobs import start_job
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.runs.history.evaluations import answers_in
from lora_backend.runs.record.evaluation_documents import EvaluateResult
from lora_backend.runs.record.job_documents import EvaluateRequest
from lora_backend.runs.record.run_store import RunStore
from lora_backend.terminal import show
from lora_backend.views.evaluation_view import evaluation_lines


def evaluate(arguments: argparse.Namespace) -> int:
    """Run the command."""
    installation = this_installation()
    subjects = [adapter_of(words) for words in arguments.subjects]
    request = _request(subjects, arguments, installation)
    name = ", ".join(subject.label for subject in subjects)
    if arguments.detach:
        job = start_job(request, installation, name=name)
        if arguments.json:
            print_json({"run": job.id, "path": str(job.path), "state": job.state().state})
        else:
            show(job.id)
        return 0
    folder, code = in_foreground(request, installation, name=name)
    _show(folder, is_json=arguments.json)
    return code


def _request(subjects: Sequence[Subject], arguments: argparse.Namespace, installation: Installation) -> EvaluateRequest:
    first = subjects[0]
    runs = {subject.run.id for subject in subjects if subject.run is not None}
    if arguments.max_rows is not None and arguments.max_rows < 1:
        raise ConfigError(N_("`--max-rows` must be a whole number above 0, not {count}."), count=arguments.max_rows)
    policy = AnyPath(installation.folder)

    def bound(path: Path | None) -> Path | None:
        return None if path is None else policy.data(str(path))

    asked = AskedFor(
        dataset=bound(arguments.dataset),
        questions=bound(arguments.questions),
        prompts=bound(arguments.prompts),
        max_rows=arguments.max_rows,
        sampling=Sampling(
            temperature=arguments.temperature, max_new_tokens=arguments.max_new_tokens, seed=arguments.seed
        ),
        values=dict(map(setting, arguments.set)),
    )
    return evaluate_request(
        [(subject.label, subject.adapter) for subject in subjects],
        arguments.model or first.base_model,
        asked,
        of_run=first.run.id if first.run is not None and len(runs) == 1 else None,
        config=first.config,
    )


def _show(folder: RunStore, *, is_json: bool) -> None:
    result = folder.read_result(EvaluateResult)
    state = folder.state()
    if is_json:
        print_json(
            {
                "run": folder.id,
                "path": str(folder.path),
                "state": state.state,
                "result": None if result is None else _plain(result),
                **({} if state.message is None else {"error": state.message.text()}),
            }
        )
    elif result is not None:
        for line in evaluation_lines(result, answers_in(folder)):
            show(line)
        show(Message(N_("All losses and answers are in {path}."), {"path": str(folder.path)}), to_stderr=True)


def _plain(result: EvaluateResult) -> dict[str, Any]:
    """The result with its notes in words."""
    return {**result.to_json(), "notes": [note.text() for note in result.notes]}
