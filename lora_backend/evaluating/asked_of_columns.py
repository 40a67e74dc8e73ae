"""What every column of an evaluation is asked: read before a model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from lora_backend.config.check import check_config
from lora_backend.config.validation import refuse_errors
from lora_backend.data.prompt_rows import read_prompts
from lora_backend.data.question_rows import parse_questions, read_bytes
from lora_backend.errors import ConfigError
from lora_backend.evaluating.held_out_rows import HeldOut, labelled, row_set, rows_asked
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.resolve import ResolvedConfig, resolve
from lora_backend.runs.record.evaluation_documents import RowSet
from lora_backend.runs.record.job_documents import EvaluateRequest


@dataclass(frozen=True)
class Asked:
    """Rows, questions and prompts; at least one of them."""

    rows: HeldOut = field(default_factory=HeldOut)
    row_set: RowSet | None = None
    questions: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def num_passes(self) -> int:
        """Of each column."""
        return sum(map(bool, (self.rows.rows, self.questions, self.prompts)))


def resolved_request(request: EvaluateRequest, installation: Installation) -> ResolvedConfig:
    """The request as a config that names its model, rows and questions. Raises `ConfigError` for a value of a key that
    is none. Its paths were bound by whoever made the request."""
    named = {"eval_dataset": request.dataset, "questions": request.questions}
    values: dict[str, Any] = {**request.values, "model_name": request.base_model}
    values |= {key: path for key, path in named.items() if path is not None}
    refuse_errors(check_config(values))
    return resolve(values, installation, AnyPath(installation.folder))


def read_asked(
    request: EvaluateRequest,
    resolved: ResolvedConfig,
    tokenizer: PreTrainedTokenizerBase,
    report: Callable[[float], None],
) -> Asked:
    """All that is asked. Raises `DataError` where a file cannot be read, `ConfigError` where nothing is asked."""
    sets = rows_asked(resolved, request.max_rows, report)
    rows, measured, questions = HeldOut(), None, []
    if sets:
        rows = labelled(sets, tokenizer, resolved.config, report)
        measured = row_set(sets, rows, is_held_back=request.dataset is None)
    for named in resolved.rows:
        if named.key == "questions":
            questions = parse_questions(read_bytes(named.bound), named.bound.name)
    prompts = read_prompts(Path(request.prompts)) if request.prompts is not None else []
    asked = Asked(rows, measured, questions, prompts)
    if not asked.num_passes:
        raise ConfigError(N_("There is nothing to measure. Name rows, questions or prompts."))
    return asked
