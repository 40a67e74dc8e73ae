"""What is known about a config's model and data on this machine, and the check that uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lora_backend.config.check import CheckResult, check_config
from lora_backend.config.files import ConfigDocument
from lora_backend.config.findings import Severity
from lora_backend.config.rules import Facts
from lora_backend.data.rows import read_dataset, read_questions
from lora_backend.errors import ConfigError, DataError, ModelError
from lora_backend.i18n import N_, Message
from lora_backend.models.describe import ModelDescription, describe_model
from lora_backend.models.find import find_model
from lora_backend.settings import path_of

Rows = TypeVar("Rows")
DATA_KEYS = ("dataset", "questions")
"""Keys that name a file of rows."""


def gather_facts(values: Mapping[str, Any], base: Path | None = None) -> Facts:
    """Read the files that a config names; relative paths of data count from `base` (default: the current folder).

    A model or data set that is not on this machine is a warning, for the config may be meant for another one;
    one that is there and cannot be used is an error.
    """
    problems: list[tuple[Severity, str, Message]] = []
    model = _model(values.get("model_name"), problems)
    dataset = _read(values.get("dataset"), "dataset", read_dataset, base, problems)
    _read(values.get("questions"), "questions", read_questions, base, problems)
    return Facts(
        num_blocks=model.num_blocks if model else None,
        linear_names=model.linear_names if model else (),
        linear_modules=model.linear_modules if model else None,
        outer_modules=model.outer_modules if model else (),
        has_tokenizer=model.has_tokenizer if model else None,
        has_chat_template=model.has_chat_template if model else None,
        row_format=dataset.format if dataset else None,
        problems=tuple(problems),
    )


def check_with_facts(document: ConfigDocument | Mapping[str, Any], base: Path | None = None) -> CheckResult:
    """The check of a config, against the schema and against what is on this machine. Never raises for an answer."""
    values = document.values if isinstance(document, ConfigDocument) else document
    return check_config(document, gather_facts(values, base))


def refuse_errors(result: CheckResult) -> None:
    """Raise `ConfigError` naming every error of a check, if there is one."""
    if not result.is_valid:
        raise ConfigError(
            N_("The config has {count} errors: {errors}"),
            count=len(result.errors),
            errors=[finding.message for finding in result.errors],
        )


def check_config_consistency(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check a config and say how it differs from the defaults of `train_lora.py`.

    Returns `{"is_valid": bool, "issues": [str], "missing": [key], "unknown": [key], "differences": {key: {"default",
    "value"}}, "recommended_config": {…}, "findings": [{"severity", "code", "key", "line", "message", "remedy"}]}`,
    with sentences in the current language. Asks no network; never raises for a bad config.
    """
    return check_with_facts(config).to_dict()


def _model(name: Any, problems: list[tuple[Severity, str, Message]]) -> ModelDescription | None:
    if not isinstance(name, str) or not name:
        return None
    try:
        path = find_model(name)
    except ModelError as error:
        problems.append(("warning", "model_name", error.message))
        return None
    try:
        return describe_model(path)
    except ModelError as error:
        problems.append(("error", "model_name", error.message))
        return None


def _read(
    name: Any,
    key: str,
    read: Callable[[Path], Rows],
    base: Path | None,
    problems: list[tuple[Severity, str, Message]],
) -> Rows | None:
    if not isinstance(name, str) or not name:
        return None
    path = None
    try:
        path = data_path(name, base)
        return read(path)
    except DataError as error:
        problems.append(("error" if path and path.exists() else "warning", key, error.message))
        return None


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
