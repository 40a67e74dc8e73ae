"""What the page is about: the file of rows and the model that the address names, bound to the browser's roots."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lora_backend.data.data_question import DataQuestion
from lora_backend.data.row_file import RowFile, open_row_file
from lora_backend.data.source_files import Source, SourceFile, find_source
from lora_backend.data.unpacking import open_rows, packing_of
from lora_backend.errors import DataError
from lora_backend.i18n import N_, Message
from lora_backend.installation import path_of
from lora_backend.preflight.named_files import kept_summaries
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.preflight.token_counts import TOKENIZER
from pages.parts.data.question import Question
from pages.parts.shell.services import resolved

ASKED = (
    "data_format",
    "data_columns",
    "max_bad_rows",
    "max_length",
    "truncation",
    "train_on",
    "batch_size",
    "val_size",
    "seed",
)
MOST_AT_ONCE = 32 * 2**20
"""Bytes of lines, which are looked through in a tenth of a second."""
MOST_WRITTEN_DOWN = 4 * 2**20
"""Of a table that is written down as lines first."""
MOST_UNPACKED = 64 * 2**10
"""Of what may hold a thousand times as much."""
MOST_FILES = 20
LOOKED_AT = 100
"""First rows of a data set that nobody has read whole yet."""
TEMPLATES = ("chat_template.jinja", "tokenizer_config.json")


@dataclass(frozen=True)
class Subject:
    """A data set on this machine, and a model where one is chosen."""

    question: Question
    named: ResolvedConfig
    path: Path
    model: Path | None
    """Folder of the model; None without one that can be read."""
    no_model: Message | None
    """Why rows are not written with the model that was chosen."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What an answer about it is read from."""
        models = () if self.model is None else tuple(self.model / name for name in (TOKENIZER, *TEMPLATES))
        return (self.path, *(file.path for file in self.source.files[:MOST_FILES]), *models)

    @cached_property
    def data_question(self) -> DataQuestion:
        """What the torch process is asked."""
        asked = {name: self.question.value(name) for name in ASKED}
        model = None if self.model is None else str(self.model)
        told = {name: value for name, value in asked.items() if value is not None}
        return DataQuestion(path=str(self.path), split=self.question.split, model=model, **told)

    @cached_property
    def source(self) -> Source:
        """The files that it consists of. Raises `DataError` where it is not clear which."""
        return find_source(self.path, self.question.split)

    @cached_property
    def size_bytes(self) -> int:
        return sum(file.path.stat().st_size for file in self.source.files)

    @cached_property
    def rows_at_once(self) -> RowFile | None:
        """Its rows by number; None where they may be too many to be read on the page's way."""
        if len(self.source.files) > MOST_FILES:
            return None
        return self._open() if self.size_bytes <= min(map(_most_at_once, self.source.files)) else None

    def opened(self, *, is_counted: bool) -> RowFile | None:
        """The same; of a large one too, once it was read whole by who counts."""
        if self.rows_at_once is not None:
            return self.rows_at_once
        return self._open() if is_counted else None

    def _open(self) -> RowFile:
        return open_row_file(self.path, kept_summaries(self.named.installation), split=self.question.split)


def subject_of(question: Question) -> Subject:
    """Raises `DataError` where the data set is not there, or may not be named."""
    named = resolved(question.values())
    rows = next(iter(named.training_sets), None)
    if rows is None or rows.path is None:
        raise (rows and rows.refusal) or DataError(
            N_("There is no data set {path}. Check the path."), path=question.dataset
        )
    if not rows.path.exists():
        raise DataError(N_("There is no data set {path}. Check the path."), path=question.dataset)
    model, reason = _model_of(named)
    return Subject(question, named, rows.path, model, reason)


def _most_at_once(file: SourceFile) -> int:
    with open_rows(file.path) as opened:
        is_packed = packing_of(opened.peek(4)[:4]) is not None
    if is_packed or file.kind in ("parquet", "arrow"):
        return MOST_UNPACKED
    return MOST_AT_ONCE if file.kind == "jsonl" else MOST_WRITTEN_DOWN


def _model_of(named: ResolvedConfig) -> tuple[Path | None, Message | None]:
    if named.model is None:
        return None, None
    if named.model.path is None:
        return None, None if named.model.refusal is None else named.model.refusal.message
    if not named.model.path.is_dir() or not _has_tokenizer(named.model.path):
        return None, Message(
            N_("{model} has no tokenizer on this machine, so its rows are shown as plain text."),
            {"model": named.model.name},
        )
    return named.model.path, None


def _has_tokenizer(folder: Path) -> bool:
    found = path_of(str(folder))
    return found is not None and any((found / name).is_file() for name in (TOKENIZER, "tokenizer.model", "vocab.json"))
