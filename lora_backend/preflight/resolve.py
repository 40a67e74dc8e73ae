"""From a config to all that is known of it here: every path bound, its model found, its data read, each once.

Check, plan, table, launch and resume are given one `ResolvedConfig`; below them nobody resolves again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lora_backend.config.check import CheckResult, check_config
from lora_backend.config.config_text import ConfigDocument
from lora_backend.config.named_data import TRAINED_ON, paths_in, with_paths
from lora_backend.config.rules import Facts
from lora_backend.config.schema import TrainingConfig
from lora_backend.config.validation import log_config, refuse_errors
from lora_backend.data.content_hash import sha256_together
from lora_backend.data.data_question import DataQuestion
from lora_backend.data.data_report import DataReport
from lora_backend.data.summary import Summary
from lora_backend.errors import FlightdeckError, ModelError
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.models.describe import ModelDescription
from lora_backend.preflight.data_asked import by_name, known_reports, questions_of
from lora_backend.preflight.facts import Readers, facts_about
from lora_backend.preflight.named_adapter import NamedAdapter, named_adapter
from lora_backend.preflight.named_files import NamedModel, NamedRows, in_an_epoch, named_model, named_rows
from lora_backend.preflight.path_policy import PathPolicy
from lora_backend.runs.checkpoints.publication import publication_of
from lora_backend.runs.record.attempts import ReadSet

_NO_MODEL = N_("There is no model folder {path}. Check `model_name`.")


@dataclass(frozen=True)
class ResolvedConfig:
    """A config with what it names; made by `resolve` alone, so that no path of it was forgotten.

    Paths are bound when it is made. What stands behind them is read when somebody first asks, once.
    """

    document: ConfigDocument
    """As it was written."""
    values: Mapping[str, Any]
    """With the paths of its model and data as they were bound."""
    model: NamedModel | None
    """None where the config names none."""
    rows: tuple[NamedRows, ...]
    """All that it names of rows, in the schema's order."""
    policy: PathPolicy
    installation: Installation
    readers: Readers
    adapter: NamedAdapter | None = None
    """That it begins with; None where it names none, or has begun."""

    @cached_property
    def facts(self) -> Facts:
        """What the rules of the check may know."""
        inside = {key: value for key, value in self.values.items() if key not in self.escapes}
        return facts_about(inside, self.model, self.rows, self.data, self.installation, self.readers, by_name(self.known_reports), by_name(self.known_eval_reports), is_bound=self.policy.is_bound_in_publishing, adapter=self.adapter)  # fmt: skip

    @cached_property
    def data_questions(self) -> Mapping[NamedRows, DataQuestion]:
        """What is asked of each data set that it trains on and that may be read here."""
        return questions_of(self.values, self.model, self.training_sets)

    @cached_property
    def eval_questions(self) -> Mapping[NamedRows, DataQuestion]:
        """The same of its `eval_dataset`, of which nothing is held out."""
        return questions_of(
            {**self.values, "val_size": 0.0}, self.model, [rows for rows in self.rows if rows.key == "eval_dataset"]
        )

    @property
    def known_eval_reports(self) -> Mapping[NamedRows, DataReport]:
        """What was counted of it."""
        return known_reports(self.eval_questions, self.installation)

    @property
    def has_read_rows(self) -> bool:
        """Whether its data sets were read already, for its facts."""
        return "facts" in self.__dict__

    @property
    def known_reports(self) -> Mapping[NamedRows, DataReport]:
        """What was counted of its data sets as they are now, under its settings; by whoever has counted."""
        return known_reports(self.data_questions, self.installation)

    @cached_property
    def result(self) -> CheckResult:
        """The check of its text, against the schema and against what is on this machine. Never raises for an answer."""
        return check_config(self.document, self.facts)

    @cached_property
    def config(self) -> TrainingConfig:
        """The typed config. Raises pydantic's error where `result` has errors of keys."""
        return TrainingConfig.model_validate(dict(self.values))

    def validated(self) -> TrainingConfig:
        """The typed config, logged with all that its check found. Raises `ConfigError` naming every error."""
        log_config(self.document.values, self.result)
        refuse_errors(self.result)
        return self.config

    @property
    def config_json(self) -> Mapping[str, Any]:
        """Of its model. Raises `ModelError` where nobody has it."""
        if self.model is None:
            raise ModelError(_NO_MODEL, path="")
        return self.model.config_json

    @property
    def model_path(self) -> Path:
        """Of its model's folder, or bare `config.json`. Raises `ModelError` where it is not on this machine."""
        if self.model is None or self.model.path is None:
            raise (self.model and self.model.refusal) or ModelError(_NO_MODEL, path="")
        return self.model.path

    @property
    def description(self) -> ModelDescription | None:
        """Of its model, if its files are here and can be read."""
        return None if self.model is None else self.model.description

    @property
    def training_sets(self) -> tuple[NamedRows, ...]:
        """What it trains on, in its order."""
        return tuple(rows for rows in self.rows if rows.key in TRAINED_ON)

    @property
    def data(self) -> Summary | None:
        """Of all its data sets as one, with the rows that an epoch takes of them, if they are here and every row is good."""
        return in_an_epoch([(rows.summary, rows.named.share) for rows in self.training_sets])

    @property
    def dataset(self) -> Path | None:
        """Where its rows are, if it names one set, and one that may be read."""
        sets = self.training_sets
        return sets[0].path if len(sets) == 1 else None

    @property
    def data_sha256(self) -> str | None:
        """Of the bytes of its data sets. Raises `DataError` where they cannot be read."""
        return sha256_together([one.sha256 for one in self.read_sets()])

    def read_sets(self) -> list[ReadSet]:
        """Its data sets with the hashes of what is there now. Raises `DataError` where one cannot be read."""
        return [
            ReadSet(path=rows.named.path, split=rows.named.split, sha256=rows.sha256()) for rows in self.training_sets
        ]

    @property
    def escapes(self) -> dict[str, FlightdeckError]:
        """Key → why its path may not be named from where it was named."""
        return dict(self._escapes())

    def refuse_escapes(self) -> None:
        """Raise for the first path that may not be named, or where no adapter may be published."""
        for _, error in self._escapes():
            raise error
        publication_of(self.values, self.installation, bound=self.policy.is_bound_in_publishing)

    def refuse_impossible_paths(self) -> None:
        """Raise `DataError` for a text that can be no path of data."""
        for rows in self.rows:
            if rows.refusal is not None:
                raise rows.refusal

    def _escapes(self) -> Iterator[tuple[str, FlightdeckError]]:
        if self.model is not None and self.model.escape is not None:
            yield "model_name", self.model.escape
        if self.adapter is not None and self.adapter.escape is not None:
            yield "init_from_adapter", self.adapter.escape
        for rows in self.rows:
            if rows.escape is not None:
                yield rows.key, rows.escape


def resolve(
    document: ConfigDocument | Mapping[str, Any],
    installation: Installation,
    policy: PathPolicy,
    readers: Readers | None = None,
) -> ResolvedConfig:
    """Bind every path of a config as `policy` allows. Never raises for what the config says."""
    if not isinstance(document, ConfigDocument):
        document = ConfigDocument.of({str(key): value for key, value in document.items()})
    values = document.values
    name = values.get("model_name")
    model = named_model(name, policy) if isinstance(name, str) and name else None
    rows = tuple(named_rows(named, values, policy, installation) for named in paths_in(values))
    bound = {found.named: str(found.path) for found in rows if found.path is not None}
    values, readers = with_paths(values, bound), readers or Readers()
    if model is not None:
        values = {**values, "model_name": model.bound}
    begun_with = values.get("init_from_adapter")
    is_needed = isinstance(begun_with, str) and bool(begun_with) and not policy.has_begun
    adapter = named_adapter(str(begun_with), policy) if is_needed else None
    if adapter is not None:
        values = {**values, "init_from_adapter": adapter.bound}
    return ResolvedConfig(document, values, model, rows, policy, installation, readers, adapter)
