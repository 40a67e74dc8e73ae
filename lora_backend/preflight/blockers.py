"""What keeps a config from starting on this machine, beside its text: model, data, libraries, disk, and the plan."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from lora_backend.config.check import CheckResult
from lora_backend.config.findings import Finding, Fix
from lora_backend.config.fix_offers import remove
from lora_backend.config.named_data import TRAINED_ON
from lora_backend.config.rules import ConfigView, Facts, row_facts, rows_cut
from lora_backend.config.rules.output_facts import checkpoint_bytes
from lora_backend.config.rules.process_keys import OF_SEVERAL
from lora_backend.errors import (
    ExpressionError,
    FlightdeckError,
    ModelError,
    PlanError,
    TooLittleMemoryError,
    UntrainableError,
)
from lora_backend.formats import size
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.planning.plan import Plan
from lora_backend.planning.report import verdict
from lora_backend.preflight.attachable import unattachable
from lora_backend.preflight.placement import MAP_ANEW, DoesNotFitError

OF_THE_CHECK = frozenset(
    {
        "model_name_unusable", "dataset_unusable", "datasets_unusable", "eval_dataset_unusable", "questions_unusable", "init_from_adapter_unusable", "output_dir_unusable", "no_tokenizer",
        "already_published", "not_an_adapter", "publication_forbidden", "no_such_device", "fp16_without_gpu",
        "library_missing", "model_library_missing", "kernel_without_gpu", "kernel_on_old_gpu", "not_causal",
        "quantized_untrainable", "quantized_already", "refused_target",
        "more_processes_than_gpus", "too_few_gpus", "processes_on_cpu",
    }
)  # fmt: skip
"""What a check of the text says of this machine in passing, and what no run can start with."""
OF_ROWS = frozenset(
    {
        "no_chat_template", "too_many_bad_rows", "template_refuses_rows", "nothing_to_train_on", "nothing_to_evaluate",
        "rows_beyond_positions", "no_rows_left",
    }
)  # fmt: skip
"""What rows and tokenizer say to each other, and what no run can train on."""
TIGHT = "tight"
DOES_NOT_FIT = "does_not_fit"
"""The one blocker that a person may pass over (*Start anyway*)."""
MIN_FREE_BYTES = 16 << 20
"""Of a disk for a run's log, metrics and status."""
Rule = Callable[[ConfigView, Facts, Installation], Iterator[Finding]]


def blockers_of(
    config: ConfigView, result: CheckResult, facts: Facts, installation: Installation, *, needs_data: bool = True
) -> tuple[Finding, ...]:
    """All of them but the plan's. `needs_data`: rows come from the config's data sets, not from a caller."""
    is_without = config.has_good(*TRAINED_ON) and not any(map(config.get, TRAINED_ON))
    found = [_no_data(config)] if needs_data and is_without else []
    found += [replace(finding, severity="error") for finding in result.findings if _is_blocker(finding, needs_data)]
    found += [] if needs_data else callers_batches(config)
    for rule in RULES:
        found += rule(config, facts, installation)
    order = {"model_name": 0, **dict.fromkeys(TRAINED_ON, 1)}
    return tuple(sorted(found, key=lambda finding: order.get(finding.key or "", 2)))


def blocker_of(error: FlightdeckError, config: ConfigView) -> Finding:
    """The refusal of a plan as a finding."""
    if isinstance(error, DoesNotFitError):
        return _finding(DOES_NOT_FIT, error.message, Message(N_("Save memory, use other GPUs, or start it anyway.")))
    if isinstance(error, TooLittleMemoryError):
        remedy = Message(N_("Use other GPUs, or turn `force_balance` off."))
        return config.finding(
            "error", "no_gpu_has_enough", "force_balance", error.message, remedy, remove("force_balance")
        )
    if isinstance(error, UntrainableError):
        key = error.key or "model_name"
        remedy = Message(N_("Change `{key}`."), {"key": key})
        return config.finding("error", "untrainable", key, error.message, remedy)
    if isinstance(error, ExpressionError):
        remedy = Message(N_("Write it more simply, or name the modules one by one."))
        return config.finding("error", error.code, "target_modules", error.message, remedy)
    if isinstance(error, PlanError) and config.get("device_map") is None:
        remedy = Message(N_("Change `strategy`, or remove it to get the fastest that fits."))
        return config.finding("error", "strategy_unusable", "strategy", error.message, remedy, remove("strategy"))
    code = "no_such_device" if isinstance(error, PlanError) else "device_map_unusable"
    return config.finding("error", code, "device_map", error.message, Message(N_("Change `device_map`.")), map_anew())


def blockers_by_rows(config: ConfigView, facts: Facts) -> tuple[Finding, ...]:
    """What stands in the way by what was counted of the rows."""
    found = (finding for room in (row_facts, rows_cut) for check in room.CHECKS for finding in check(config, facts))
    return tuple(replace(finding, severity="error") for finding in found if finding.code in OF_ROWS)


def blocker_of_rows(error: FlightdeckError, config: ConfigView) -> Finding:
    """Why the rows could not be counted: the model's tokenizer, or the rows themselves."""
    key = "model_name" if isinstance(error, ModelError) else "dataset"
    remedy = N_("Fix the tokenizer's files, or use another model.") if key == "model_name" else N_("Fix the data set.")
    code = "tokenizer_unusable" if key == "model_name" else "dataset_unusable"
    return config.finding("error", code, key, error.message, Message(remedy))


def warning_of(plan: Plan) -> Finding:
    """A plan that is tight: nothing stands in the way, and a launch asks once."""
    return Finding("warning", TIGHT, verdict(plan), Message(N_("Launching asks once.")))


def map_anew() -> Fix:
    """Have the map made for the GPUs that are there."""
    return Fix(MAP_ANEW, Message(N_("Replace the map with one made for this machine's GPUs at launch")))


def _is_blocker(finding: Finding, needs_data: bool) -> bool:
    if finding.code in OF_ROWS:
        return needs_data
    return finding.code in OF_THE_CHECK or (finding.code == "missing_key" and finding.key == "model_name")


def _no_data(config: ConfigView) -> Finding:
    return config.finding(
        "error",
        "no_data",
        "dataset",
        Message(N_("Add a data set: `dataset` is missing.")),
        Message(N_("Upload one on the Config page, or name a file of rows as `dataset`.")),
    )


def callers_batches(config: ConfigView) -> Iterator[Finding]:
    """A caller's DataLoader is in this one process, so no other has its batches."""
    keys = ("strategy", "num_processes", "num_nodes")
    if not config.has_good(*keys):
        return
    strategy, num, nodes = map(config.get, keys)
    if strategy not in OF_SEVERAL and (num or 1) * nodes < 2:
        return
    key = "strategy" if strategy in OF_SEVERAL else "num_processes" if (num or 1) > 1 else "num_nodes"
    yield config.finding(
        "error",
        "batches_of_a_caller",
        key,
        Message(
            N_("Batches from a DataLoader are in one process, so `{key}: {value}` cannot share them among several."),
            {"key": key, "value": config.get(key)},
        ),
        Message(
            N_("Remove `{key}`, or name the data as `dataset` and start it with `flightdeck runs start`."), {"key": key}
        ),
        remove(key),
    )


def _weights(config: ConfigView, facts: Facts, installation: Installation) -> Iterator[Finding]:
    if facts.has_weights is False:
        yield config.finding(
            "error",
            "no_weights",
            "model_name",
            Message(
                N_("There are no weights (*.safetensors) for the model {model}."), {"model": config.get("model_name")}
            ),
            Message(N_("Name a folder with the whole model, or download it.")),
        )


def _place(config: ConfigView, facts: Facts, installation: Installation) -> Iterator[Finding]:
    """The disk of the runs: writable, with room for the adapter and a checkpoint."""
    folder = next(path for path in (installation.runs, *installation.runs.parents) if path.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        yield _finding(
            "workspace_unwritable",
            Message(N_("No run can be written into {folder}."), {"folder": str(folder)}),
            Message(N_("Grant yourself write permission there, or set FLIGHTDECK_WORKSPACE to another folder.")),
        )
    if facts.disk_free_bytes is None:
        return
    needed_bytes = max(MIN_FREE_BYTES, round(checkpoint_bytes(config, facts) * 4 / 3))  # the adapter is a third of one
    if facts.disk_free_bytes < needed_bytes:
        said = {"folder": str(folder), "needed": size(needed_bytes), "free": size(facts.disk_free_bytes)}
        yield _finding(
            "disk_full",
            Message(
                N_("The adapter and one checkpoint take {needed}, but the disk of {folder} has only {free} free."), said
            ),
            Message(N_("Free some disk space, or lower `r`.")),
        )


def _finding(code: str, message: Message, remedy: Message) -> Finding:
    return Finding("error", code, message, remedy)


RULES: tuple[Rule, ...] = (_weights, unattachable, _place)
