"""What a run proves of its adapter: when it is attached, when it is loaded from a checkpoint, and once it is saved."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from peft import PeftModel

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.loaded_identity import differences_from_file
from lora_backend.modeling.rank_check import log_report, raise_on_mismatch, rank_report
from lora_backend.runs.record.run_store import RunStore
from lora_backend.verification.identity_check import with_identity
from lora_backend.verification.rank_documents import RankReport


def check_attached(
    model: PeftModel, config: TrainingConfig, folder: RunStore, checkpoint: Path | None = None
) -> RankReport:
    """The rank check of the loaded model, written into the run; under `strict_r_check` a mismatch raises.

    `checkpoint`: what the adapter was loaded from; without one it was just made, and that it is untrained is no warning.
    """
    report = rank_report(model, config, loaded_from=checkpoint, exact=True)
    if checkpoint is None:
        report = report.but(warnings=[code for code in report.warnings if code != "untrained"])
    folder.write_rank_report(report)
    _say(report, config)
    return report


def check_saved(model: PeftModel, config: TrainingConfig, folder: RunStore, trained: Collection[str]) -> RankReport:
    """The rank check once more, on the files of the finished adapter: every layer that was trained is in them, and
    every tensor is the one in the model."""
    report = rank_report(folder.adapter, config, trained=trained)
    differences = differences_from_file(model, folder.adapter)
    if differences is not None:
        report = with_identity(report, "loaded", differences)
    _say(report, config)
    return report


def _say(report: RankReport, config: TrainingConfig) -> None:
    if config.check_r_consistency or config.strict_r_check:
        log_report(report)
    if config.strict_r_check:
        raise_on_mismatch(report)
