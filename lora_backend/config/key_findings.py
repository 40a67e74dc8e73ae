"""Each key by itself against the schema: unknown names, missing ones, values that it does not take."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from lora_backend.config.accepted_values import takes, unreadable
from lora_backend.config.config_text import parse_config
from lora_backend.config.expected import expected
from lora_backend.config.findings import Finding, Fix, shorten
from lora_backend.config.fix_offers import remove
from lora_backend.config.inside_findings import Inside, is_of_a_part
from lora_backend.config.options import NEW_NAMES, why_not_here
from lora_backend.config.rules import ConfigView
from lora_backend.config.rules.file_rules import MISSING_KEY, OUT_OF_RANGE, UNUSABLE_WORD, WRONG_TYPE
from lora_backend.config.schema import KEYS, REQUIRED, Key, TrainingConfig
from lora_backend.config.spelling import near_word, words_of
from lora_backend.config.unknown_keys import unknown_key
from lora_backend.config.yaml_traps import SWITCHES, to_ascii
from lora_backend.i18n import N_, Message

MOST_GUESSES = 50
"""Unknown keys for which the nearest name is looked for; a file with more is a config of something else."""


def schema_findings_of(config: ConfigView, written: Mapping[str, str], told: Collection[str] = ()) -> Iterator[Finding]:
    """Every key that is unknown, missing or has a value that it does not take; `written` is how values stand in the file.

    Of unknown keys in `told` something was said already.
    """
    kinds: dict[str, str] = {}
    inside: dict[str, Inside] = {}
    num_unknown = 0
    unread = {key: kind for key, value in config.values.items() if (kind := unreadable(key, value))}
    try:
        TrainingConfig.model_validate({key: value for key, value in config.values.items() if key not in unread})
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False):
            key = str(detail["loc"][0])
            if key not in kinds and is_of_a_part(detail["loc"]):
                inside[key] = Inside(config.values[key], detail["loc"][1:], detail["type"])
            kinds.setdefault(key, detail["type"])
    for key in unread:
        if kinds.get(key) == "missing":
            del kinds[key]
    kinds |= unread
    for key, kind in kinds.items():
        if key in inside:
            yield inside[key].found(config, key)
            continue
        if kind == "extra_forbidden" and key in told:
            continue
        if kind == "extra_forbidden":
            num_unknown += 1
            yield unknown_key(config, key, guess=num_unknown <= MOST_GUESSES)
        elif kind == "missing" or (KEYS[key].default is REQUIRED and config.values[key] in (None, "")):
            is_empty = N_("Choose a base model: `{key}` is empty.")
            yield MISSING_KEY.found(config, key, {"key": key}, sentence=is_empty if key in config.values else None)
        else:
            yield _wrong_value(config, key, kind, written.get(key))


def takes_words(key: Key) -> bool:
    """Whether the key takes certain words only, so that no other reading of them can be meant."""
    return bool(words_of(key))


def _wrong_value(config: ConfigView, key: str, kind: str, written: str | None) -> Finding:
    value = config.values[key]
    if word := _wrong_word(config, key, value):
        return word
    values = {"key": key, "value": shorten(value), "expected": expected(KEYS[key])}
    rule = OUT_OF_RANGE if kind.startswith(("greater_than", "less_than", "finite")) else WRONG_TYPE
    remedy: Message | None = None
    fix: Fix | None = None
    if isinstance(value, int | float) and not isinstance(value, bool) and takes(key, written or shorten(value)):
        # As it stands in the file: `version: 01` means "01", though it was read as 1.
        quoted = written or shorten(value)
        remedy = Message(N_('Write it in quotes: `{key}: "{value}"`.'), {"key": key, "value": quoted})
        fix = config.change({key: quoted})
    if isinstance(value, str):
        meant = _meant(key, value)
        if meant is not None:
            remedy = Message(
                N_("The value is text. Write it without quotes: `{key}: {bare}`."), {"key": key, "bare": shorten(meant)}
            )
            fix = config.change({key: meant})
    return rule.found(config, key, values, fix, remedy=remedy)


def _wrong_word(config: ConfigView, key: str, value: Any) -> Finding | None:
    """For a word that is a slip of the pen, or known to transformers and not usable here; None for any other value."""
    why = why_not_here(key, value)
    near = NEW_NAMES.get(value) if why else near_word(key, value)
    if why is None and near is None:
        return None
    said = {"key": key, "value": shorten(value), "expected": expected(KEYS[key])}
    if near is None:
        said["default"] = shorten(KEYS[key].default)
        return UNUSABLE_WORD.found(config, key, said, remove(key), sentence=why)
    said["near"] = near
    rule = UNUSABLE_WORD if why else WRONG_TYPE
    return rule.found(config, key, said, config.change({key: near}), sentence=why, remedy=N_("Set `{key}: {near}`."))


def _meant(key: str, text: str) -> Any:
    """The number or switch that a text stands for and that the key takes; None where there is none.

    `no` and `on` are texts in YAML 1.2, and full-width digits are no digits.
    """
    plain = to_ascii(text).strip()
    if KEYS[key].annotation is bool and plain.lower() in SWITCHES:
        return SWITCHES[plain.lower()]
    bare = parse_config(f"{key}: {plain}").values.get(key, "")
    return bare if not isinstance(bare, str) and bare is not None and takes(key, bare) else None
