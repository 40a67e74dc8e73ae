"""What an evaluation is asked, from an adapter and its run: which rows, questions and prompts, and how rows are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_backend.chats.documents import Sampling
from lora_backend.errors import ConfigError, ModelError
from lora_backend.i18n import N_
from lora_backend.models.find import find_model
from lora_backend.runs.record.job_documents import Column, EvaluateRequest
from lora_backend.verification.adapter_folder import read_adapter_config
from lora_backend.verification.other_base import FindBase, other_base

HOW_ROWS_ARE_READ = (
    "data_format", "data_columns", "max_bad_rows", "max_length", "truncation", "train_on", "precision", "quantization", "attn_implementation",
)  # fmt: skip
"""Keys of a run's config that an evaluation goes by too."""
HELD_BACK = ("dataset", "datasets", "val_size", "seed")
"""Keys by which the rows are known that a run held out."""


@dataclass(frozen=True)
class AskedFor:
    """What somebody named; of a run's adapter, where nothing is named, its own rows and questions."""

    dataset: Path | None = None
    questions: Path | None = None
    prompts: Path | None = None
    max_rows: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    values: Mapping[str, Any] = field(default_factory=dict)
    """Keys of a config, in the place of the run's."""

    @property
    def is_empty(self) -> bool:
        """Whether neither rows nor questions nor prompts are named."""
        return not (self.dataset or self.questions or self.prompts)


def evaluate_request(
    adapters: Sequence[tuple[str, Path]],
    base_model: str | None,
    asked: AskedFor,
    *,
    of_run: str | None = None,
    config: Mapping[str, Any] | None = None,
    find_base: FindBase = find_model,
) -> EvaluateRequest:
    """The request for these adapters (what to call each, and its folder), the base model beside them first.

    `config`: of the run `of_run`, with bound paths. Raises `ConfigError` where there is nothing to measure, and
    `ModelError` where the base model is not here, or an adapter is not there or was made on another base.
    """
    if not base_model:
        raise ModelError(
            N_("The adapter {path} does not say which base model it was trained on. Name the base model."),
            path=str(adapters[0][1]),
        )
    config = config or {}
    values = {key: config[key] for key in HOW_ROWS_ARE_READ if key in config} | dict(asked.values)
    dataset, questions = asked.dataset, asked.questions
    if asked.is_empty:
        dataset, questions = config.get("eval_dataset"), config.get("questions")
        if not dataset and config.get("val_size") and (config.get("dataset") or config.get("datasets")):
            values |= {key: config[key] for key in HELD_BACK if key in config}
        elif not (dataset or questions):
            raise ConfigError(_nothing(of_run), id=of_run)
    labels = _unlike([_name_of(base_model), *(label for label, _ in adapters)])
    folders = [None, *(str(folder.resolve()) for _, folder in adapters)]
    columns = [Column(label=label, adapter=folder) for label, folder in zip(labels, folders, strict=True)]
    refuse_other_bases(base_model, columns, find_base)
    return EvaluateRequest(
        base_model=base_model,
        columns=columns,
        of_run=of_run,
        dataset=str(dataset) if dataset else None,
        questions=str(questions) if questions else None,
        prompts=str(asked.prompts) if asked.prompts else None,
        max_rows=asked.max_rows,
        values=values,
        sampling=asked.sampling.to_json(),
    )


def refuse_other_bases(base_model: str, columns: Sequence[Column], find_base: FindBase = find_model) -> None:
    """Raise `ModelError` for the first column whose adapter is not there, or was made on another base model."""
    base = find_base(base_model)
    for column in columns:
        if column.adapter is None:
            continue
        folder = Path(column.adapter)
        own = adapter_config(folder).get("base_model_name_or_path")
        other = other_base(folder, base, base_model, own, find_base)
        if other is not None:
            raise ModelError(
                N_("The adapter {adapter} was trained on {other}, not on {base}. Name its own base model."),
                adapter=column.label,
                other=other,
                base=base_model,
            )


def adapter_config(folder: Path) -> dict[str, Any]:
    """Of an adapter's folder. Raises `ModelError` where it holds none."""
    config = read_adapter_config(folder)
    if config is None:
        raise ModelError(
            N_("The folder {path} contains no adapter: it has no adapter_config.json. Name the folder that has one."),
            path=str(folder),
        )
    return config


def _nothing(of_run: str | None) -> str:
    if of_run is None:
        return N_("There is nothing to measure. Name rows, questions or prompts.")
    return N_(
        "Run {id} has no `eval_dataset`, `val_size` or `questions`, so there is nothing to measure. Name rows, questions or prompts."
    )


def _name_of(base_model: str) -> str:
    """Of a folder or a hub id, without what stands before it."""
    return base_model.rstrip("/").rpartition("/")[2] or base_model


def _unlike(labels: Sequence[str]) -> list[str]:
    """The labels, no two alike."""
    found: list[str] = []
    for label in labels:
        number, name = 1, label
        while name in found:
            number += 1
            name = f"{label} ({number})"
        found.append(name)
    return found
