"""What is known about a config's model and data on this machine, and the check that uses it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.config.check import CheckResult, check_config
from lora_backend.config.config_text import ConfigDocument
from lora_backend.config.findings import Finding, Severity
from lora_backend.config.foreign.notice import FOREIGN
from lora_backend.config.key_queries import DATA_KEYS
from lora_backend.config.rules import Facts, GpuFact
from lora_backend.config.rules.machine_facts import KERNEL_SINCE
from lora_backend.data.summary import Kind, Summary, summary_of
from lora_backend.errors import ConfigError, DataError, ModelError, RunError
from lora_backend.hardware.inventory import Gpu, read_gpus
from lora_backend.hardware.visible import visible_gpus
from lora_backend.i18n import N_, Message, Plural
from lora_backend.models.causal import why_not_causal
from lora_backend.models.describe import ModelDescription, describe_model, read_json_object
from lora_backend.models.find import find_model
from lora_backend.models.headers import read_folder_headers
from lora_backend.models.quantized import quantized_as
from lora_backend.preflight.libraries import missing_for, missing_packages
from lora_backend.preflight.trees import known_tree
from lora_backend.runs.checkpoints.publication import Publication, PublicationError, place_of, publication_of
from lora_backend.runs.record.run_folder import RunFolder
from lora_backend.settings import Settings, load_settings, path_of

MOST_NAMED = 5
"""Errors that one sentence names."""
HEADS = r"(^|\.)(lm_head|embed_out|output_layer)\.weight$"
"""Names of the output head among a model's tensors."""


@dataclass(frozen=True)
class Readers:
    """How facts of this machine are read; a test passes others."""

    gpus: Callable[[], Sequence[Gpu]] = lambda: visible_gpus(read_gpus().gpus, os.environ)[0]
    disk_free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free
    runs: Callable[[Path], Sequence[RunFolder]] = lambda root: [RunFolder(path.parent) for path in root.glob("*/run.json")]  # fmt: skip


def gather_facts(
    values: Mapping[str, Any],
    base: Path | None = None,
    readers: Readers | None = None,
    settings: Settings | None = None,
    *,
    bound: bool = False,
) -> Facts:
    """Read the files that a config names; relative paths of data count from `base` (default: the current folder).
    `bound`: its adapter must be published below an output root.

    A model or data set that is not on this machine, or cannot be used here, is a warning: the config may be meant for
    another one. It keeps a run from starting (`blockers.py`). GPUs and runs are asked only where a key depends on them.
    """
    readers = readers or Readers()
    problems: list[tuple[Severity, str, Message]] = []
    path, model = _model(values.get("model_name"), problems)
    said = _config_json(path) if path and model else {}
    quantized = quantized_as(said)
    settings = settings or load_settings()
    dataset = _rows_of(values.get("dataset"), "dataset", base, settings, problems)
    _rows_of(values.get("questions"), "questions", base, settings, problems)
    publication, forbidden, used_by = _publication(values, readers, settings, bound=bound)
    return Facts(
        num_blocks=model.num_blocks if model else None,
        linear_names=model.linear_names if model else (),
        linear_modules=model.linear_modules if model else None,
        outer_modules=model.outer_modules if model else (),
        linear_width=_linear_width(path, model) if path and model else {},
        has_experts=_has_experts(path) if path and model else None,
        max_positions=model.max_positions if model else None,
        has_weights=_has_weights(path) if path and model else None,
        not_causal=why_not_causal(said),
        quantized=quantized,
        missing_for_model=missing_for(quantized),
        is_tied=_is_tied(path, said) if path else None,
        has_tokenizer=model.has_tokenizer if model else None,
        has_chat_template=model.has_chat_template if model else None,
        row_format=dataset.format if dataset else None,
        num_rows=dataset.num_rows if dataset else None,
        gpus=tuple(GpuFact(g.name, g.compute_capability) for g in readers.gpus()) if _needs_gpus(values) else None,
        missing_packages=missing_packages(values),
        disk_free_bytes=_disk_free_bytes(readers),
        is_published=None if publication is None else publication.standing == "adapter",
        publication_forbidden=forbidden,
        publication_blocked_by=str(publication.path) if publication and publication.standing == "other" else None,
        output_used_by=used_by,
        model_type=model.model_type if model else None,
        tree=known_tree(said, settings) if said else None,
        problems=tuple(problems),
    )


def _needs_gpus(values: Mapping[str, Any]) -> bool:
    """Whether any rule about GPUs could speak; asking the driver takes its time."""
    return (
        values.get("precision") in ("fp16", "bf16")
        or bool(values.get("quantization") or values.get("force_balance"))
        or isinstance(values.get("device_map"), Mapping)
        or str(values.get("attn_implementation")) in KERNEL_SINCE
    )


def _disk_free_bytes(readers: Readers) -> int | None:
    """Of the disk that holds the runs, or will once their folder is made."""
    runs = load_settings().runs
    try:
        return readers.disk_free_bytes(next(folder for folder in (runs, *runs.parents) if folder.is_dir()))
    except (OSError, StopIteration):
        return None


def _linear_width(path: Path, model: ModelDescription) -> dict[str, int]:
    """Ending → inputs plus outputs of all linear layers with that ending."""
    names = set(model.linear_names)
    widths: dict[str, int] = {}
    for name, tensor in (read_folder_headers(path, "model") if path.is_dir() else {}).items():
        module = name.removesuffix(".weight")
        if module in names:
            ending = module.rsplit(".", 1)[-1]
            widths[ending] = widths.get(ending, 0) + sum(tensor.shape)
    return widths


def _has_weights(path: Path) -> bool:
    return path.is_dir() and any(path.glob("*.safetensors"))


def _is_tied(path: Path, config: Mapping[str, Any]) -> bool | None:
    """Whether the head is the embedding: what `config.json` says, else whether the files hold a head of its own."""
    text_config = config.get("text_config")
    for part in (config, text_config if isinstance(text_config, dict) else {}):
        if isinstance(part.get("tie_word_embeddings"), bool):
            return bool(part["tie_word_embeddings"])
    names = read_folder_headers(path, "model") if path.is_dir() else {}
    return None if not names else not any(re.search(HEADS, name) for name in names)


def _config_json(path: Path) -> dict[str, Any]:
    return read_json_object(path / "config.json" if path.is_dir() else path)


def _has_experts(path: Path) -> bool:
    """Whether the model's config counts experts, under any of the names in use."""
    config = _config_json(path)
    text_config = config.get("text_config")
    inner = text_config if isinstance(text_config, dict) else config
    names = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    return any(type(inner.get(name)) is int and inner[name] > 1 for name in names)


def _publication(
    values: Mapping[str, Any], readers: Readers, settings: Settings, *, bound: bool
) -> tuple[Publication | None, tuple[str, Message] | None, str | None]:
    """Where the adapter would go, or the key and the sentence why it may not; and which other run will publish there."""
    try:
        publication = publication_of(values, settings, bound=bound)
    except PublicationError as error:
        return None, (error.key, error.message), None
    if publication is None:
        return None, None, None
    try:
        runs = readers.runs(settings.runs)
    except OSError:
        runs = []
    for run in runs:
        if run.exit_json.exists():  # told without reading it: a workspace has hundreds
            continue
        try:
            same = place_of(run.read_record().config, settings) == publication.path
        except RunError:
            continue
        if same and not run.state().has_ended:
            return publication, None, run.id
    return publication, None, None


def check_with_facts(
    document: ConfigDocument | Mapping[str, Any],
    base: Path | None = None,
    readers: Readers | None = None,
    *,
    bound: bool = False,
) -> CheckResult:
    """The check of a config, against the schema and against what is on this machine. Never raises for an answer."""
    values = document.values if isinstance(document, ConfigDocument) else document
    return check_config(document, gather_facts(values, base, readers, bound=bound))


def refuse_errors(result: CheckResult) -> None:
    """Raise `ConfigError` naming the errors of a check, if there are some; of many the first few."""
    if result.is_valid:
        return
    errors = result.errors
    said = [part for finding in errors[:MOST_NAMED] for part in _words_of(finding)]
    if len(errors) > MOST_NAMED:
        rest = len(errors) - MOST_NAMED
        said.append(Message(N_("And {count} more; `python -m lora_backend check` names them all."), {"count": rest}))
    raise ConfigError(
        Plural("The config has {count} error: {errors}", "The config has {count} errors: {errors}"),
        count=len(errors),
        errors=said,
    )


def _words_of(finding: Finding) -> list[Message]:
    """What is wrong; of a file of another tool, also what to do, which is one thing for all its keys."""
    return [finding.message, finding.remedy] if finding.code == FOREIGN else [finding.message]


def check_config_consistency(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check a config and say how it differs from the defaults of `train_lora.py`.

    Returns `{"is_valid": bool, "issues": [str], "missing": [key], "unknown": [key], "differences": {key: {"default",
    "value"}}, "recommended_config": {…}, "findings": [{"severity", "code", "key", "line", "message", "remedy",
    "fix"}]}`,
    with sentences in the current language. Asks no network; never raises for a bad config.
    """
    return check_with_facts(config).to_dict()


def _model(
    name: Any, problems: list[tuple[Severity, str, Message]]
) -> tuple[Path, ModelDescription] | tuple[None, None]:
    if not isinstance(name, str) or not name:
        return None, None
    try:
        path = find_model(name)
    except ModelError as error:
        problems.append(("warning", "model_name", error.message))
        return None, None
    try:
        return path, describe_model(path)
    except ModelError as error:
        problems.append(("warning", "model_name", error.message))
        return None, None


def _rows_of(
    name: Any, kind: Kind, base: Path | None, settings: Settings, problems: list[tuple[Severity, str, Message]]
) -> Summary | None:
    """What the file under one of `DATA_KEYS` says; read only when it has changed, for a page checks at every click."""
    if not isinstance(name, str) or not name:
        return None
    try:
        return summary_of(data_path(name, base), kind, kept=kept_summaries(settings))
    except DataError as error:
        problems.append(("warning", kind, error.message))
        return None


def kept_summaries(settings: Settings) -> Path:
    """Where it is kept what large files of rows say."""
    return settings.cache / "rows"


def with_data_paths(values: Mapping[str, Any], base: Path | None = None) -> dict[str, Any]:
    """`values` with the paths of its data made absolute, so that they mean the same from any folder."""
    return {
        key: str(data_path(value, base).absolute()) if key in DATA_KEYS and isinstance(value, str) and value else value
        for key, value in values.items()
    }


def data_path(name: str, base: Path | None = None) -> Path:
    """A data set's path; a relative one counts from `base` (default: the current folder).

    Raises `DataError` for a text that can be no path.
    """
    path = path_of(name)
    if path is None or path_of(str(whole := (base or Path.cwd()) / path)) is None:
        raise DataError(N_("There is no data set {path}. Check the path."), path=name[:200])
    return whole
