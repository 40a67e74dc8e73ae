"""An evaluation from its request to its result: base model and adapters on the same rows, questions and prompts."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from lora_backend.chats.documents import Sampling
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import DataError
from lora_backend.evaluating.asked_of_columns import Asked, read_asked, resolved_request
from lora_backend.evaluating.evaluation_figures import Found, outcome_of
from lora_backend.evaluating.held_out import loss_of
from lora_backend.evaluating.measured_columns import each_column
from lora_backend.evaluating.progress_parts import PassesDone
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.launching.evaluation_request import refuse_other_bases
from lora_backend.modeling.devices import resolve_precision
from lora_backend.modeling.load import load_model, load_tokenizer
from lora_backend.modeling.out_of_memory import OutOfMemoryError, is_out_of_memory
from lora_backend.runs.processes.job_progress import JobProgress
from lora_backend.runs.processes.own_lease import leased
from lora_backend.runs.record.job_documents import EvaluateRequest
from lora_backend.runs.record.run_store import RunStore
from lora_backend.tokens.end_of_turn import settle_stops
from lora_backend.training.answers import AS_AFTER_TRAINING, answer_all, longest_asked
from lora_backend.training.data import learned_positions, refuse_beyond

logger = logging.getLogger(__name__)


def evaluate_in(request: EvaluateRequest, folder: RunStore, installation: Installation, progress: JobProgress) -> None:
    """Measure every column; `rows.jsonl`, `answers.jsonl` and `result.json` are written at the end, all or none.

    Raises one of our errors with a sentence, and `JobStoppedError` at a stop, between two batches or two tokens.
    """
    transformers_logging.disable_progress_bar()
    try:
        _evaluate(request, folder, installation, progress)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            N_("The model does not fit in the free memory. Close other programs, or evaluate on another machine.")
        ) from error


def _evaluate(request: EvaluateRequest, folder: RunStore, installation: Installation, progress: JobProgress) -> None:
    progress.stage("data")
    refuse_other_bases(request.base_model, request.columns)
    resolved = resolved_request(request, installation)
    tokenizer = load_tokenizer(resolved.config.model_name)
    asked = read_asked(request, resolved, tokenizer, progress.at)
    config = resolved.config.model_copy(update={"precision": resolve_precision(resolved.config.precision)})
    progress.stage("loading")
    with leased(folder, installation):
        found = _Measuring(request, config, tokenizer, asked, progress).all_columns()
    progress.stage("checking")
    has_template = bool(tokenizer.chat_template)
    outcome_of(request, config.precision, asked, found, has_template=has_template, report=progress.at).write(folder)


@dataclass(frozen=True)
class _Measuring:
    request: EvaluateRequest
    config: TrainingConfig
    tokenizer: PreTrainedTokenizerBase
    asked: Asked
    progress: JobProgress

    def all_columns(self) -> list[Found]:
        """What every column made of it, in the order of the request."""
        columns = self.request.columns
        found = [Found() for _ in columns]
        passes = PassesDone(self.progress, self.asked.num_passes * len(columns))
        for place, model in each_column(columns, self._load):
            found[place] = self._found(model, columns[place].label, passes)
            del model  # or the next would be loaded beside it
        return found

    def _load(self) -> PreTrainedModel:
        model = load_model(self.config)
        self._refuse_beyond(learned_positions(model))
        settle_stops(model, self.tokenizer, in_chats=bool(self.tokenizer.chat_template))
        return model

    def _refuse_beyond(self, limit: int | None) -> None:
        """Raise `DataError` for a row, or a question with its answer, that is longer than a model's table of positions."""
        refuse_beyond(limit, max((len(row.tokens.ids) for row in self.asked.rows.rows), default=0))
        for questions, sampling in ((self.asked.questions, AS_AFTER_TRAINING), (self.asked.prompts, self._sampling)):
            longest = longest_asked(self.tokenizer, questions, sampling)
            if limit and longest > limit:
                raise DataError(
                    N_(
                        "The longest question has {longest} tokens with its answer, but the model has only {limit} positions. Shorten it, or ask for fewer new tokens."
                    ),
                    longest=longest,
                    limit=limit,
                )

    @property
    def _sampling(self) -> Sampling:
        return Sampling.model_validate(self.request.sampling)

    def _found(self, model: PreTrainedModel | PeftModel, label: str, passes: PassesDone) -> Found:
        found, asked = Found(), self.asked
        if asked.rows.rows:
            rows = [row.tokens for row in asked.rows.rows]
            passes.begin("measuring", label)
            found.losses = loss_of(model, rows, precision=self.config.precision, report=lambda part: passes.at(part, round(part * len(rows)), len(rows)))  # fmt: skip
            passes.end()
        if asked.questions:
            passes.begin("answering", label)
            found.answers = answer_all(model, self.tokenizer, asked.questions, passes.answered)
            passes.end()
        if asked.prompts:
            passes.begin("answering", label)
            found.replies = answer_all(model, self.tokenizer, asked.prompts, passes.answered, self._sampling)
            passes.end()
        return found
