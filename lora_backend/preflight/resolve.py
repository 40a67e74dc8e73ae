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
from lora_backend.config.key_queries import DATA_KEYS
from lora_backend.config.rules import Facts
from lora_backend.config.schema import TrainingConfig
from lora_backend.config.validation import log_config, refuse_errors
from lora_backend.data.summary import Kind, Summary
from lora_backend.errors import FlightdeckError, ModelError
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.models.describe import ModelDescription
from lora_backend.preflight.facts import Readers, facts_about
from lora_backend.preflight.named_files import NamedModel, NamedRows, named_model, named_rows
from lora_backend.preflight.path_policy import PathPolicy
from lora_backend.runs.checkpoints.publication import publication_of

_NO_MODEL = N_("There is no model folder {path}. Check `model_name`.")


@dataclass(frozen=True)
class ResolvedConfig:
    """A config with what it names; made by `resolve` alone, so that no path of it was forgotten.

    Paths are bound when it is made. What stands behind them is read when somebody first asks, once.
    """

    document: ConfigDocument
    """As it was written."""
    values: Mapping[str, Any]
    """With the paths of its data as they were bound."""
    model: NamedModel | None
    """None where the config names none."""
    rows: Mapping[Kind, NamedRows]
    """Of those of `DATA_KEYS` that it has."""
    policy: PathPolicy
    installation: Installation
    readers: Readers

    @cached_property
    def facts(self) -> Facts:
        """What the rules of the check may know."""
        inside = {key: value for key, value in self.values.items() if key not in self.escapes}
        return facts_about(inside, self.model, self.rows, self.installation, self.readers, is_bound=self.policy.is_bound_in_publishing)  # fmt: skip

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
    def data(self) -> Summary | None:
        """Of its data set, if the file is here and every row is good."""
        return self.rows["dataset"].summary if "dataset" in self.rows else None

    @property
    def dataset(self) -> Path | None:
        """Where its rows are, if it names a file that may be read."""
        return self.rows["dataset"].path if "dataset" in self.rows else None

    @property
    def data_sha256(self) -> str | None:
        """Of the bytes of its data set. Raises `DataError` where they cannot be read."""
        return self.rows["dataset"].sha256() if "dataset" in self.rows else None

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
        for rows in self.rows.values():
            if rows.refusal is not None:
                raise rows.refusal

    def _escapes(self) -> Iterator[tuple[str, FlightdeckError]]:
        if self.model is not None and self.model.escape is not None:
            yield "model_name", self.model.escape
        for key, rows in self.rows.items():
            if rows.escape is not None:
                yield key, rows.escape


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
    rows = {
        key: named_rows(values[key], key, policy, installation)
        for key in DATA_KEYS
        if isinstance(values.get(key), str) and values[key]
    }
    bound: dict[str, Any] = {key: str(found.path) for key, found in rows.items() if found.path is not None}
    return ResolvedConfig(document, {**values, **bound}, model, rows, policy, installation, readers or Readers())
