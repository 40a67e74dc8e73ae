"""The model and the files of rows that a config names: bound once, and read at most once, by whoever asks first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lora_backend.config.findings import Severity
from lora_backend.config.named_data import NamedPath, rows_of_epoch
from lora_backend.data.content_hash import sha256_together
from lora_backend.data.hub_sets import hub_cache
from lora_backend.data.read_as import AS_FOUND, ReadAs
from lora_backend.data.row_file import sha256_of_rows
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
    def bound(self) -> str:
        """Its name as it holds whatever the current folder is: a path is absolute, the id of a model in the hub's cache stays."""
        if self.path is None or Path(self.name).is_absolute() or self.path.is_relative_to(hub_cache()):
            return self.name
        return str(self.path)

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
    """A file or folder of rows that a config names."""

    named: NamedPath
    """As it is written, with its share and split."""
    path: Path | None
    """Absolute; None where the text can be no path, or may not be named."""
    kept: Path
    """Where it is kept what large files say."""
    refusal: DataError | None = None
    read_as: ReadAs = AS_FOUND
    """How the config says that its rows are to be read."""

    @property
    def key(self) -> str:
        return self.named.key

    @property
    def bound(self) -> Path:
        """Where it is. Raises `DataError` for one that may not be named."""
        if self.path is None:
            assert self.refusal is not None
            raise self.refusal
        return self.path

    @property
    def kind(self) -> Kind:
        """What its rows are."""
        return "questions" if self.key == "questions" else "dataset"

    @cached_property
    def _read(self) -> Summary | DataError:
        if self.path is None:
            assert self.refusal is not None
            return self.refusal
        try:
            return summary_of(self.path, self.kind, kept=self.kept, read_as=self.read_as)
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
        return sha256_of_rows(self.bound, self.named.split)

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


def named_rows(
    named: NamedPath, values: Mapping[str, Any], policy: PathPolicy, installation: Installation
) -> NamedRows:
    """Bind a path of rows as `policy` allows; `values` of the config say how they are to be read."""
    kept, read_as = kept_summaries(installation), ReadAs.of(values, named.split)
    try:
        return NamedRows(named, policy.data(named.path), kept, None, read_as)
    except DataError as error:
        return NamedRows(named, None, kept, error, read_as)


def in_an_epoch(sets: Sequence[tuple[Summary | None, float]]) -> Summary | None:
    """Several sets, each with its share, as one with the rows of an epoch; None where one of them is not known."""
    known = [(summary, share) for summary, share in sets if summary is not None]
    if not known or len(known) < len(sets):
        return None
    if len(known) == 1 and known[0][1] == 1:
        return known[0][0]
    columns = dict.fromkeys(column for summary, _ in known for column in summary.columns)
    return Summary(
        format=known[0][0].format,
        num_rows=sum(rows_of_epoch(summary.num_rows, share) for summary, share in known),
        sha256=sha256_together([summary.sha256 for summary, _ in known]) or "",
        columns=tuple(columns),
        has_chats=any(summary.has_chats for summary, _ in known),
        num_bad_rows=sum(summary.num_bad_rows for summary, _ in known),
        num_duplicates=sum(summary.num_duplicates for summary, _ in known),
    )


def kept_summaries(installation: Installation) -> Path:
    """Where it is kept what large files of rows say."""
    return installation.cache / "rows"


def _problem(key: str, error: FlightdeckError) -> Problem:
    """A file that is not here may be on the machine that the config is meant for; one that may not be named is an error."""
    is_outside = isinstance(error, ModelOutsideError | DataOutsideError)
    return "error" if is_outside else "warning", key, error.message
