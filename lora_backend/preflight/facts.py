"""What the rules of a check may know of a config's model, data and machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.config.rules import Facts, GpuFact
from lora_backend.config.rules.machine_facts import KERNEL_SINCE
from lora_backend.config.rules.process_keys import OF_SEVERAL
from lora_backend.data.data_report import DataReport
from lora_backend.data.summary import Summary
from lora_backend.errors import RunError
from lora_backend.hardware.catalog import find_gpu
from lora_backend.hardware.inventory import Gpu, read_gpus
from lora_backend.hardware.visible import visible_gpus
from lora_backend.i18n import Message
from lora_backend.installation import Installation
from lora_backend.models.causal import why_not_causal
from lora_backend.models.quantized import quantized_as
from lora_backend.preflight.libraries import missing_for, missing_packages
from lora_backend.preflight.named_adapter import NamedAdapter
from lora_backend.preflight.named_files import NamedModel, NamedRows
from lora_backend.preflight.trees import known_tree
from lora_backend.runs.checkpoints.publication import Publication, PublicationError, place_of, publication_of
from lora_backend.runs.record.run_store import RunStore


@dataclass(frozen=True)
class Readers:
    """How facts of this machine are read; a test passes others."""

    gpus: Callable[[Mapping[str, str]], Sequence[Gpu]] = lambda environment: visible_gpus(
        read_gpus().gpus, environment
    )[0]
    """Those that an environment shows."""
    disk_free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free
    runs: Callable[[Path], Sequence[RunStore]] = lambda root: [
        RunStore(path.parent) for path in root.glob("*/run.json")
    ]


def facts_about(
    values: Mapping[str, Any],
    model: NamedModel | None,
    rows: Sequence[NamedRows],
    data: Summary | None,
    installation: Installation,
    readers: Readers,
    reports: Mapping[str, DataReport] | None = None,
    eval_reports: Mapping[str, DataReport] | None = None,
    *,
    is_bound: bool,
    adapter: NamedAdapter | None = None,
) -> Facts:
    """What the rules of the check may know of a config's model, data, machine and place of publication.

    `is_bound`: its adapter must be published below an output root.

    A model or data set that is not on this machine, or cannot be used here, is a warning: the config may be meant for
    another one. It keeps a run from starting (`blockers.py`). GPUs and runs are asked only where a key depends on them.
    """
    problems = [named.problem for named in (*((model,) if model else ()), *rows)]
    if adapter is not None:
        problems.append(adapter.problem(values, model, installation))
    publication, forbidden, used_by = _publication(values, readers, installation, bound=is_bound)
    return Facts(
        **_of_model(model, installation),
        row_format=data.format if data else None,
        has_chats=data.has_chats if data else None,
        num_rows=data.num_rows if data else None,
        data_reports=reports or {},
        eval_reports=eval_reports or {},
        gpus=tuple(_gpu_fact(gpu) for gpu in readers.gpus(installation.environment)) if _needs_gpus(values) else None,
        missing_packages=missing_packages(values),
        disk_free_bytes=_disk_free_bytes(readers, installation.runs),
        is_published=None if publication is None else publication.standing == "adapter",
        publication_forbidden=forbidden,
        publication_blocked_by=str(publication.path) if publication and publication.standing == "other" else None,
        output_used_by=used_by,
        problems=tuple(problem for problem in problems if problem is not None),
    )


def _of_model(model: NamedModel | None, installation: Installation) -> dict[str, Any]:
    """What is known of a model whose files are here and can be read."""
    said = None if model is None else model.description
    if model is None or said is None:
        return {}
    quantized = quantized_as(model.config_json)
    return {
        "num_blocks": said.num_blocks,
        "linear_names": said.linear_names,
        "linear_modules": said.linear_modules,
        "outer_modules": said.outer_modules,
        "linear_width": said.linear_width,
        "has_experts": said.has_experts,
        "max_positions": said.max_positions,
        "has_weights": said.has_weights,
        "not_causal": why_not_causal(model.config_json),
        "quantized": quantized,
        "missing_for_model": missing_for(quantized),
        "is_tied": said.is_tied,
        "has_tokenizer": said.has_tokenizer,
        "has_chat_template": said.has_chat_template,
        "model_type": said.model_type,
        "tree": known_tree(model.config_json, installation) if model.config_json else None,
    }


def _gpu_fact(gpu: Gpu) -> GpuFact:
    known = find_gpu(gpu.name, gpu.total_bytes)
    return GpuFact(gpu.name, gpu.compute_capability, known.training_flops if known else None)


def _needs_gpus(values: Mapping[str, Any]) -> bool:
    """Whether any rule about GPUs could speak; asking the driver takes its time."""
    return (
        values.get("precision") in ("fp16", "bf16")
        or bool(values.get("quantization") or values.get("force_balance"))
        or isinstance(values.get("device_map"), Mapping)
        or str(values.get("attn_implementation")) in KERNEL_SINCE
        or values.get("strategy") in OF_SEVERAL
        or values.get("num_processes") is not None
    )


def _disk_free_bytes(readers: Readers, runs: Path) -> int | None:
    """Of the disk that holds the runs, or will once their folder is made."""
    try:
        return readers.disk_free_bytes(next(folder for folder in (runs, *runs.parents) if folder.is_dir()))
    except (OSError, StopIteration):
        return None


def _publication(
    values: Mapping[str, Any], readers: Readers, installation: Installation, *, bound: bool
) -> tuple[Publication | None, tuple[str, Message] | None, str | None]:
    """Where the adapter would go, or the key and the sentence why it may not; and which other run will publish there."""
    try:
        publication = publication_of(values, installation, bound=bound)
    except PublicationError as error:
        return None, (error.key, error.message), None
    if publication is None:
        return None, None, None
    try:
        runs = readers.runs(installation.runs)
    except OSError:
        runs = []
    for run in runs:
        if run.exit_json.exists():  # told without reading it: a workspace has hundreds
            continue
        try:
            same = place_of(run.read_record().config, installation) == publication.path
        except RunError:
            continue
        if same and not run.state().has_ended:
            return publication, None, run.id
    return publication, None, None
