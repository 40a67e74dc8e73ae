"""`verify`: the rank of every layer of an adapter or a run, and its provenance."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lora_backend.commands.subjects import subject_of
from lora_backend.commands.words import GOOD, NO, WRONG_QUESTION, print_json, readable
from lora_backend.config.data_now import sha256_now
from lora_backend.config.short_values import in_short
from lora_backend.errors import ModelError
from lora_backend.i18n import N_, Message
from lora_backend.installation import this_installation
from lora_backend.models.find import find_model
from lora_backend.preflight.fits import asked_fit
from lora_backend.terminal import show
from lora_backend.verification.asked_config import asked_values
from lora_backend.verification.base_words import comparison_words, difference_line
from lora_backend.verification.codes import explained
from lora_backend.verification.passport import check_passport
from lora_backend.verification.rank_documents import RankReport
from lora_backend.verification.rank_report import check_adapter_folder
from lora_backend.verification.verdicts import verdict
from lora_backend.views.rank_view import rank_text
from lora_backend.worker_client import WorkerClient

MOST_DIFFERENCES = 20
"""That have a line each; `--json` has all."""


def verify(arguments: argparse.Namespace) -> int:
    """Run the command."""
    adapter, config, base = _verify_subject(arguments)
    report = _checked(adapter, config)
    parts = check_passport(adapter, config, base, sha256_now(config or {}))
    differs = any(part.verdict == "different" for part in parts)
    document = {**report.to_dict(), "passport": [part.to_dict() for part in parts]}
    if report.is_consistent is None:
        document["error"] = verdict(report).text()
    if arguments.json:
        print_json(document)
    else:
        show(verdict(report))
        show_comparison(report)
        for code in report.warnings:
            show(f"{code}: {explained(code)}")
        for entry in report.coverage:
            if entry.warning:
                show(f"  {entry.warning}: {entry.key}: {entry.entry}")
        if report.layers:
            show(rank_text(report))
        for part in parts:
            show(f"{part.name}: {part.verdict}. {part.detail}")
            for key, trained, now in part.differing:
                show(f"  {key}: {in_short(key, trained)} -> {in_short(key, now)}")
    return {True: NO if differs else GOOD, False: NO, None: WRONG_QUESTION}[report.is_consistent]


def _checked(adapter: Path, config: dict[str, Any] | None) -> RankReport:
    """The report, from the headers; where those do not decide, of a torch process that ends with the command."""
    client = WorkerClient()
    said: list[Message] = []

    def say_progress(message: Message, _: float) -> None:
        if message not in said:
            said.append(message)
            show(message, to_stderr=True)

    try:
        return check_adapter_folder(
            adapter, config, ask_tree=asked_fit(lambda: client, this_installation(), say_progress)
        )
    finally:
        client.close()


def show_comparison(report: RankReport) -> None:
    """What the adapter was held against, and what differs, as far as a terminal has room for it."""
    for words in comparison_words(report):
        show(words)
    differences = report.differences
    for item in differences[:MOST_DIFFERENCES]:
        show(f"  {difference_line(item)}")
    if len(differences) > MOST_DIFFERENCES:
        show(Message(N_("… and {count} more: --json lists all."), {"count": len(differences) - MOST_DIFFERENCES}))


def _verify_subject(arguments: argparse.Namespace) -> tuple[Path, dict[str, Any] | None, Path | None]:
    """The adapter's folder, the config to hold it against, and the base model's config.json where it is here."""
    subject = subject_of(arguments.subject)
    config = subject.config if subject.is_run else None
    name = subject.base_model
    if arguments.config:
        config = asked_values(readable(arguments.config))
        name = str(config.get("model_name") or "") or name
    try:
        base = find_model(name) if name else None
    except ModelError:  # the passport says that it cannot be told
        base = None
    return subject.adapter, config, base if base is None or base.is_file() else base / "config.json"
