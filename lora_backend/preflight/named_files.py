"""The model and the files of rows that a config names: bound once, and read at most once, by whoever asks first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lora_backend.config.findings import Severity
from lora_backend.data.rows import sha256_of_file
from lora_backend.data.summary import Kind, Summary, summary_of
from lora_backend.errors import DataError, FlightdeckError, ModelError
from lora_backend.i18n import Message
from lora_backend.installation import Installation
from lora_backend.models.catalogue import find_in_catalogue
from lora_backend.models.describe import ModelDescription, describe_model, read_model_config
from lora_backend.preflight.path_policy import DataOutsideError, ModelOutsideError, PathPolicy

Problem = tuple[Severity, str, Message]
"""How bad it is, of which key, and the sentence."""
Source = Literal["folder", "file", "catalogue"]


@dataclass(frozen=True)
class NamedModel:
    """A model by the name that a config gives it."""

    name: str
    path: Path | None
    """Its folder (of the hub's cache too), or its bare `config.json`; None where it is not on this machine, or may not
    be named."""
    refusal: ModelError | None = None
    """Why there is no path."""

    @property
    def source(self) -> Source | None:
        """Where its facts come from; None where nobody has them."""
        if self.path is not None:
            return "folder" if self.path.is_dir() else "file"
        return None if find_in_catalogue(self.name) is None else "catalogue"

    @cached_property
    def config_json(self) -> Mapping[str, Any]:
        """Its `config.json`: of its files, else of the catalogue.

        Raises `ModelError` where none of these has it, or where it counts more blocks than can be built.
        """
        if self.path is not None:
            return read_model_config(self.path)
        known = find_in_catalogue(self.name)
        if known is not None:
            return known.config
        assert self.refusal is not None
        raise self.refusal

    @cached_property
    def _read(self) -> ModelDescription | ModelError:
        if self.path is None:
            assert self.refusal is not None
            return self.refusal
        try:
            return describe_model(self.path, self.config_json)
        except ModelError as error:
            return error

    @property
    def description(self) -> ModelDescription | None:
        """What its files on this machine say; None where they are not here, or cannot be read."""
        return None if isinstance(self._read, ModelError) else self._read

    @property
    def problem(self) -> Problem | None:
        """What stands in the way of its description."""
        return _problem("model_name", self._read) if isinstance(self._read, ModelError) else None

    @property
    def escape(self) -> ModelError | None:
        """Why it may not be named from where it was named."""
        return self.refusal if isinstance(self.refusal, ModelOutsideError) else None


@dataclass(frozen=True)
class NamedRows:
    """A file of rows that a config names."""

    key: Kind
    path: Path | None
    """Absolute; None where the text can be no path, or may not be named."""
    kept: Path
    """Where it is kept what large files say."""
    refusal: DataError | None = None

    @cached_property
    def _read(self) -> Summary | DataError:
        if self.path is None:
            assert self.refusal is not None
            return self.refusal
        try:
            return summary_of(self.path, self.key, kept=self.kept)
        except DataError as error:
            return error

    @property
    def summary(self) -> Summary | None:
        """What the file says; None where it cannot be read, or a row is wrong."""
        return None if isinstance(self._read, DataError) else self._read

    @property
    def problem(self) -> Problem | None:
        """What stands in the way of its summary."""
        return _problem(self.key, self._read) if isinstance(self._read, DataError) else None

    def sha256(self) -> str:
        """Of its bytes, those of a file with bad rows too. Raises `DataError` where it cannot be read."""
        if self.summary is not None:
            return self.summary.sha256
        if self.path is None:
            assert self.refusal is not None
            raise self.refusal
        return sha256_of_file(self.path)

    @property
    def escape(self) -> DataError | None:
        """Why it may not be named from where it was named."""
        return self.refusal if isinstance(self.refusal, DataOutsideError) else None


def named_model(name: str, policy: PathPolicy) -> NamedModel:
    """Find a model as `policy` allows."""
    try:
        return NamedModel(name, policy.model(name))
    except ModelError as error:
        return NamedModel(name, None, error)


def named_rows(name: str, key: Kind, policy: PathPolicy, installation: Installation) -> NamedRows:
    """Bind the path of a file of rows as `policy` allows."""
    try:
        return NamedRows(key, policy.data(name), kept_summaries(installation))
    except DataError as error:
        return NamedRows(key, None, kept_summaries(installation), error)


def kept_summaries(installation: Installation) -> Path:
    """Where it is kept what large files of rows say."""
    return installation.cache / "rows"


def _problem(key: str, error: FlightdeckError) -> Problem:
    """A file that is not here may be on the machine that the config is meant for; one that may not be named is an error."""
    is_outside = isinstance(error, ModelOutsideError | DataOutsideError)
    return "error" if is_outside else "warning", key, error.message
