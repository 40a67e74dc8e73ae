"""What the commands share: exit codes, values of options, the JSON document."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from lora_backend.config.accepted_values import LARGEST
from lora_backend.config.config_text import ConfigDocument, parse_config, read_config
from lora_backend.config.findings import shorten
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_, Message
from lora_backend.planning.price import Price, read_price

GOOD, NO, WRONG_QUESTION = 0, 1, 2


def say(template: str, **values: object) -> str:
    """A sentence in the language of the command."""
    return Message(template, values).text()


def readable(path: Path) -> ConfigDocument:
    """The config in a file. Raises `ConfigError` with the first reason where it cannot be read."""
    document = read_config(path)
    if not document.is_readable:
        raise ConfigError(N_("{path}: {reason}"), path=str(path), reason=document.problems[0].message)
    return document


def setting(text: str) -> tuple[str, Any]:
    """`key=value` of `--set`, the value read as YAML. Raises `ConfigError` where there is none."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(N_("`--set {text}` has no value. Write --set key=value."), text=text)
    return key, parse_config(f"value: {value}").values.get("value", value)


def price_of(text: str) -> Price:
    """`1.5`, `1.5EUR` or `1.5 EUR`. Raises `ConfigError` for anything else."""
    price = read_price(text)
    if price is None:
        raise ConfigError(
            N_(
                "`--price` must be the price of one GPU for one hour, above 0, with a currency if you like (1.5EUR), not {text}."
            ),
            text=shorten(text),
        )
    return price


def count_of(text: str) -> int:
    """A number of rows. Raises `ConfigError` for anything else."""
    if not re.fullmatch(r"[0-9]{1,12}", text.strip()) or int(text) == 0:
        raise ConfigError(N_("`--rows` must be a whole number above 0, not {text}."), text=shorten(text))
    return int(text)


def print_json(document: dict[str, Any]) -> None:
    """The one document on stdout."""
    # Escaped, so that a terminal of any encoding passes it on whole.
    print(json.dumps(_finite(document), indent=1, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    """`value` with what JSON cannot say as text: NaN, infinity, and numbers of thousands of digits."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return shorten(value) if isinstance(value, int) and abs(value) > LARGEST else value
