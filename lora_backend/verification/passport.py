"""The passport of an adapter (`flightdeck.json`): what it was made from, so that it can be told from another.

Each part is a hash or plain values; the answer names the parts that differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lora_backend.atomic import write_json
from lora_backend.bounded import open_regular
from lora_backend.config.diff import same_value
from lora_backend.config.key_queries import names_in
from lora_backend.config.schema import KEYS
from lora_backend.errors import ModelError
from lora_backend.i18n import N_, Message, Plural
from lora_backend.models.describe import read_json_object
from lora_backend.models.identity import base_identity

FILE = "flightdeck.json"
Verdict = Literal["same", "partly", "different", "unknown"]
"""`partly`: not all of the run was trained on what is there now, and that was confirmed when it was resumed."""


@dataclass(frozen=True)
class Part:
    """One part of the answer: which, whether it is the same, and what differs or why it cannot be told."""

    name: str
    verdict: Verdict
    detail: Message
    differing: tuple[tuple[str, Any, Any], ...] = ()
    """Of a config: each key whose value differs, as the adapter was trained with it and as it is now."""
    recorded: str | None = None
    found: str | None = None
    """Of a file: its sha256 when the adapter was made, and now; None where it is not known."""

    def to_dict(self, language: str | None = None) -> dict[str, Any]:
        """Plain data, the sentence in `language`."""
        sides = {key: {"adapter": trained, "config": now} for key, trained, now in self.differing}
        said = {"part": self.name, "verdict": self.verdict, "detail": self.detail.text(language)}
        return {**said, "differing": sides} if sides else said


def write_passport(
    adapter: Path,
    *,
    config: Mapping[str, Any],
    starts: Sequence[Mapping[str, Any]],
    ranks: Mapping[str, Any],
) -> None:
    """Write the passport of a finished adapter into its folder.

    `starts`: those of the run that trained steps of it, in order, each with `start`, `first_step`, `last_step` and what
    it read and was made by: `data_sha256`, `base` (`base_identity`), `versions` …, as far as that was recorded.
    `config` is the one that the last of them trained by.
    """
    last = dict(starts[-1]) if starts else {}
    data = {start.get("data_sha256") for start in starts}
    passport = {
        "config": {key: config[key] for key in KEYS if key in config},
        "data_sha256": data.pop() if len(data) == 1 else None,
        "base_config_sha256": (last.get("base") or {}).get("config_sha256"),
        "base": last.get("base"),
        "starts": [dict(start) for start in starts],
        "tensors_sha256": tensors_sha256(adapter),
        "adapter_config_sha256": file_sha256(adapter / "adapter_config.json"),
        "ranks": dict(ranks),
        "versions": last.get("versions"),
    }
    write_json(adapter / FILE, passport)


def check_passport(
    adapter: Path,
    config: Mapping[str, Any] | None = None,
    base_config: Path | None = None,
    data_sha256: str | None = None,
) -> list[Part]:
    """Whether adapter, config, base model and data belong together, part by part.

    Without a passport the adapter's own files still say something of rank and targets. Raises `ModelError` for a
    passport that is not JSON.
    """
    path = adapter / FILE
    if not path.is_file():
        return [
            Part(
                "passport",
                "unknown",
                Message(N_("There is no provenance record (flightdeck.json), so later changes cannot be ruled out.")),
            ),
            *_without_passport(adapter, config),
        ]
    passport = read_json_object(path)
    parts = [
        _hash_part("tensors", passport.get("tensors_sha256"), tensors_sha256(adapter)),
        _hash_part(
            "adapter_config", passport.get("adapter_config_sha256"), file_sha256(adapter / "adapter_config.json")
        ),
        _base_part(passport, base_config),
        _data_part(passport, data_sha256),
    ]
    recorded = passport.get("config")
    return [_config_part(recorded if isinstance(recorded, dict) else {}, config), *parts]


def start_in_passport(adapter: Path) -> int | None:
    """The number of the run's start that finished the adapter; None where the passport does not say."""
    try:
        starts = read_json_object(adapter / FILE).get("starts")
    except ModelError:
        return None
    last = starts[-1] if isinstance(starts, list) and starts else None
    number = last.get("start") if isinstance(last, dict) else None
    return number if isinstance(number, int) else None


def ranks_in_passport(adapter: Path) -> dict[str, Any]:
    """Layer → rank as the adapter was trained; empty without a passport, or with one that does not say.

    `check_passport` says it of one that is damaged; ranks can be read all the same.
    """
    try:
        ranks = read_json_object(adapter / FILE).get("ranks")
    except ModelError:
        return {}
    return ranks if isinstance(ranks, dict) else {}


def base_in_passport(adapter: Path) -> dict[str, Any]:
    """What the passport says of the base model: hashes as of `base_identity`, and its `name`; empty without one."""
    try:
        passport = read_json_object(adapter / FILE)
    except ModelError:
        return {}
    config = passport.get("config")
    return _recorded_base(passport) | {"name": config.get("model_name") if isinstance(config, dict) else None}


def _recorded_base(passport: Mapping[str, Any]) -> dict[str, Any]:
    """Of an older passport its config alone."""
    base = passport.get("base")
    return dict(base) if isinstance(base, dict) else {"config_sha256": passport.get("base_config_sha256")}


def _config_part(recorded: Mapping[str, Any], config: Mapping[str, Any] | None) -> Part:
    if config is None:
        return Part("config", "unknown", Message(N_("No config was given to compare with.")))
    sides = [
        (key, recorded.get(key, KEYS[key].default), config.get(key, KEYS[key].default))
        for key in KEYS
        if KEYS[key].portable
    ]
    return _differing(sides) or Part("config", "same", Message(N_("It matches what the adapter was trained with.")))


def _differing(sides: Iterable[tuple[str, Any, Any]]) -> Part | None:
    """The part of the answer that is a config with other values; None where all are the same."""
    differing = tuple(side for side in sides if not same_value(side[1], side[2]))
    if not differing:
        return None
    keys = ", ".join(key for key, _, _ in differing)
    said = Message(
        Plural("{count} value differs: {keys}.", "{count} values differ: {keys}."),
        {"count": len(differing), "keys": keys},
    )
    return Part("config", "different", said, differing)


def _hash_part(name: str, recorded: Any, found: str | None) -> Part:
    sides: dict[str, Any] = {"recorded": recorded if isinstance(recorded, str) else None, "found": found}
    if recorded is None or found is None:
        return Part(name, "unknown", Message(N_("Not available, so not checked.")), **sides)
    if recorded == found:
        return Part(name, "same", Message(N_("Unchanged.")), **sides)
    return Part(name, "different", Message(N_("It is not the one the adapter was made with.")), **sides)


def _base_part(passport: Mapping[str, Any], base_config: Path | None) -> Part:
    """Config, weights and tokenizer of the base model."""
    recorded = _recorded_base(passport)
    found = base_identity(base_config.parent) if base_config is not None else {}
    sides = {key: (recorded.get(key), found.get(key)) for key in PARTS_OF_A_BASE}
    told = {key: then == now for key, (then, now) in sides.items() if then and now}
    shown = "weights_sha256" if "weights_sha256" in told else "config_sha256"
    then, now = sides[shown]
    hashes: dict[str, Any] = {"recorded": then if isinstance(then, str) else None, "found": now}
    if not told:
        return Part("base_model", "unknown", Message(N_("Not available, so not checked.")), **hashes)
    others = ", ".join(PARTS_OF_A_BASE[key] for key, is_same in told.items() if not is_same)
    if others:
        said = Message(N_("It is not the one the adapter was made with: {parts} differ."), {"parts": others})
        return Part("base_model", "different", said, **hashes)
    if "weights_sha256" not in told:
        said = Message(N_("Its config.json is unchanged. Its weights were not recorded, or are not here."))
        return Part("base_model", "unknown", said, **hashes)
    return Part("base_model", "same", Message(N_("Unchanged.")), **hashes)


def _data_part(passport: Mapping[str, Any], found: str | None) -> Part:
    """Whether the file is now what trained: all of the steps, as long as the run was not resumed in changed data."""
    starts = passport.get("starts")
    spans = [start for start in starts if isinstance(start, dict)] if isinstance(starts, list) else []
    read = {start.get("data_sha256") for start in spans}
    hashes = read - {None}
    if len(read) < 2:
        return _hash_part("data", passport.get("data_sha256"), found)
    if len(hashes) == 1:
        is_same = found in hashes
        said = N_("The last steps were trained on it; the data of earlier steps was not recorded.")
        return Part("data", "unknown", Message(said)) if is_same else _hash_part("data", next(iter(hashes)), found)
    values = {"steps": ", ".join(map(_steps, spans)), "now": (found or "–")[:12]}
    if found is None:
        said = N_("The data was changed while the run was trained (sha256 by steps: {steps}). The file is not here.")
        return Part("data", "unknown", Message(said, values))
    said = N_("The data was changed while the run was trained (sha256 by steps: {steps}). The file now: {now}.")
    return Part("data", "partly" if found in hashes else "different", Message(said, values))


def _steps(start: Mapping[str, Any]) -> str:
    sha256 = start.get("data_sha256")
    return f"{start.get('first_step')}–{start.get('last_step')}: {sha256[:12] if isinstance(sha256, str) else '–'}"


PARTS_OF_A_BASE = {"config_sha256": "config.json", "weights_sha256": "weights", "tokenizer_sha256": "tokenizer"}
_SAID_BY_BOTH = (
    "r",
    "alpha",
    "target_modules",
    "target_layers",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "use_dora",
)
SAID_BY_BOTH = {ours: names_in("peft")[ours] for ours in _SAID_BY_BOTH}
"""Our key → the one of `adapter_config.json` that means the same."""


def _without_passport(adapter: Path, config: Mapping[str, Any] | None) -> list[Part]:
    path = adapter / "adapter_config.json"
    if config is None or not path.is_file():
        return []
    own = read_json_object(path)
    is_pefts = "peft_type" in config or "lora_alpha" in config
    asked = {
        ours: config.get(theirs) if is_pefts else config.get(ours, KEYS[ours].default)
        for ours, theirs in SAID_BY_BOTH.items()
    }
    # PEFT writes out which modules `all-linear` meant; which a model has is not known here.
    is_all_linear = asked["target_modules"] == "all-linear"
    sides = [
        (ours, _as_set(own.get(theirs)) or None, _as_set(asked[ours]) or None)
        for ours, theirs in SAID_BY_BOTH.items()
        if not (ours == "target_modules" and is_all_linear)
    ]
    if differs := _differing(sides):
        return [differs]
    if is_all_linear:
        said = N_(
            "Rank and alpha agree. Without a provenance record, there is no way to tell which modules `all-linear` meant."
        )
    else:
        said = N_("Rank, alpha and targets agree. Without a provenance record, nothing more can be checked.")
    return [Part("config", "same", Message(said))]


def _as_set(value: Any) -> Any:
    return sorted(value, key=str) if isinstance(value, list) else value


def file_sha256(path: Path | None) -> str | None:
    """Hash of a file's bytes; None where there is no file."""
    if path is None or not path.is_file():
        return None
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_sha256(adapter: Path) -> str | None:
    """One hash over all weight files of an adapter, names and bytes; None where there are none."""
    files = sorted(adapter.glob("adapter_model*"))
    if not files:
        return None
    hashes = {file.name: file_sha256(file) for file in files}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
