"""What the page is about: the file of rows and the model that the address names, bound to the browser's roots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lora_backend.errors import DataError
from lora_backend.i18n import N_, Message
from lora_backend.installation import path_of
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.preflight.token_counts import TOKENIZER
from pages.parts.data.question import Question
from pages.parts.shell.services import resolved

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
        return (self.path, *models)


def subject_of(question: Question) -> Subject:
    """Raises `DataError` where the data set is not there, or may not be named."""
    named = resolved(question.values())
    rows = named.rows.get("dataset")
    if rows is None or rows.path is None:
        raise (rows and rows.refusal) or DataError(
            N_("There is no data set {path}. Check the path."), path=question.dataset
        )
    if not rows.path.exists():
        raise DataError(N_("There is no data set {path}. Check the path."), path=question.dataset)
    model, reason = _model_of(named)
    return Subject(question, named, rows.path, model, reason)


def _model_of(named: ResolvedConfig) -> tuple[Path | None, Message | None]:
    if named.model is None:
        return None, None
    if named.model.path is None:
        return None, None if named.model.refusal is None else named.model.refusal.message
    if not named.model.path.is_dir() or not _has_tokenizer(named.model.path):
        return None, Message(N_("{model} has no tokenizer on this machine, so its rows are shown as plain text."), {"model": named.model.name})  # fmt: skip
    return named.model.path, None


def _has_tokenizer(folder: Path) -> bool:
    found = path_of(str(folder))
    return found is not None and any((found / name).is_file() for name in (TOKENIZER, "tokenizer.model", "vocab.json"))
