"""What there is to say of an adapter in its model card, gathered from run, passport and base model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_backend.bounded import read_text
from lora_backend.config.config_text import parse_config
from lora_backend.config.diff import ABSENT, diff_paths, is_difference
from lora_backend.config.named_data import trained_on
from lora_backend.config.schema import KEYS
from lora_backend.config.secrets import holds_secret
from lora_backend.errors import FlightdeckError, ModelError
from lora_backend.installation import Installation, path_of
from lora_backend.models.describe import read_json_object
from lora_backend.models.find import HUB_ID, find_model
from lora_backend.models.identity import base_identity
from lora_backend.preflight.plan_vs_measured import Comparison, compare
from lora_backend.preflight.roots import allowed_model
from lora_backend.runs.record.curves import Column, read_columns
from lora_backend.runs.record.job_documents import ExportRequest
from lora_backend.runs.record.run_store import RunStore
from lora_backend.verification.adapter_folder import read_adapter_config, read_adapter_folder
from lora_backend.verification.other_base import FindBase
from lora_backend.verification.passport import FILE as PASSPORT
from lora_backend.verification.ranks import rank_of

IN_THE_CACHE = re.compile(r"models--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)")
LICENSE = re.compile(r"[\w.+-]{1,60}")
MAX_CARD_BYTES = 2**20


@dataclass(frozen=True)
class CardFacts:
    """Of one adapter; what is not known is absent."""

    name: str
    """What to call it."""
    base: str | None
    """As run or adapter name it: a hub id or a folder of this machine."""
    base_id: str | None
    """Its id on the hub."""
    base_folder: Path | None
    """Where it is on this machine."""
    base_hashes: Mapping[str, str | None]
    """As of `base_identity`."""
    license: str | None
    """That the base model's own card names."""
    peft: Mapping[str, Any]
    """`adapter_config.json`."""
    config: Mapping[str, Any]
    """By which it was trained; empty where nobody says."""
    config_text: str | None
    """As the user wrote it."""
    differences: tuple[tuple[str, Any, Any], ...]
    """Key, default, value."""
    data: tuple[str, ...]
    """The sets, by id or by the last part of their paths."""
    data_ids: tuple[str, ...]
    """Those of them that are sets of the hub."""
    data_sha256: str | None
    ranks: Mapping[int, int]
    """Rank → layers that have it."""
    planned: tuple[Comparison, ...]
    versions: Mapping[str, str]
    columns: Mapping[str, Column] = field(repr=False)
    run: RunStore | None = None


def card_facts(request: ExportRequest, adapter: Path, installation: Installation) -> CardFacts:
    """All that is known of the adapter in `adapter`, which may be another than the request's where that was truncated."""
    run = RunStore(installation.runs / request.of_run, installation.clock) if request.of_run else None
    if run is not None and run.glance_at_record() is None:
        run = None
    passport = _passport(Path(request.adapter))
    config = _dict(passport.get("config")) or (run.config_as_changed() if run else {})
    peft = read_adapter_config(adapter) or {}
    base = request.base_model or config.get("model_name") or peft.get("base_model_name_or_path")
    folder = _base_folder(base, base_finder(request, installation))
    hashes = _dict(passport.get("base")) or (base_identity(folder) if folder else {})
    named = [str(found.path) for found in trained_on(config)]
    data_ids = tuple(name for name in named if is_hub_id(name))
    attempt = run.read_attempt() if run else None
    return CardFacts(
        name=_name(run, Path(request.adapter)),
        base=str(base) if base else None,
        base_id=hub_id(str(base), folder) if base else None,
        base_folder=folder,
        base_hashes=hashes,
        license=_license(folder),
        peft=peft,
        config=config,
        config_text=run.config_text() if run else None,
        differences=_differences(config),
        data=tuple(name if name in data_ids else Path(name).name for name in named),
        data_ids=data_ids,
        data_sha256=_text(passport.get("data_sha256")) or (attempt.data_sha256 if attempt else None),
        ranks=_ranks(adapter, peft),
        planned=tuple(compare(attempt, config, installation)) if attempt and config else (),
        versions={name: str(version) for name, version in _dict(passport.get("versions")).items() if version},
        columns=read_columns(run.metrics_jsonl) if run else {},
        run=run,
    )


def hub_id(base: str, folder: Path | None) -> str | None:
    """The id of a base model on the hub: the name itself, or what the hub's cache calls the folder; None where neither says."""
    if is_hub_id(base):
        return base
    for path in (Path(base), *([folder] if folder else [])):
        for part in path.parts:
            if found := IN_THE_CACHE.fullmatch(part):
                return f"{found['owner']}/{found['name']}"
    return None


def is_hub_id(name: str) -> bool:
    """Whether a name is an id of the hub and no path that is there."""
    path = path_of(name)
    return HUB_ID.fullmatch(name) is not None and ".." not in name and (path is None or not path.exists())


def base_finder(request: ExportRequest, installation: Installation) -> FindBase:
    """Finds the base model; one that a browser asked for within the roots alone."""
    return (lambda name: allowed_model(name, installation)) if request.bound else find_model


def _base_folder(base: Any, find: FindBase) -> Path | None:
    try:
        found = find(str(base)) if base else None
    except FlightdeckError:
        return None
    return found if found is None or found.is_dir() else found.parent


def _name(run: RunStore | None, adapter: Path) -> str:
    record = run.glance_at_record() if run else None
    if record is None or run is None:
        return adapter.name
    published = [str(record.config[key]) for key in ("pkg", "version", "knowledge_type") if record.config.get(key)]
    return record.name or "-".join(published) or run.id


def _differences(config: Mapping[str, Any]) -> tuple[tuple[str, Any, Any], ...]:
    """What is not as the defaults, without the base model's name and without what looks like a secret."""
    defaults = {key: KEYS[key].default for key in KEYS}
    rows = diff_paths(config, defaults, KEYS)
    return tuple(
        (row.key, None if row.base is ABSENT else row.base, row.value)
        for row in rows
        if row.value is not ABSENT and row.key != "model_name" and row.status != "unknown"
        and is_difference(row, defaults) and not holds_secret(row.key, row.value)
    )  # fmt: skip


def _ranks(adapter: Path, peft: Mapping[str, Any]) -> dict[int, int]:
    counts: Counter[int] = Counter()
    for layer in read_adapter_folder(adapter, dict(peft)).layers:
        rank = rank_of(layer)
        if isinstance(rank, int):
            counts[rank] += 1
    return dict(sorted(counts.items(), reverse=True))


def _license(folder: Path | None) -> str | None:
    """What the header of the base model's card says."""
    if folder is None:
        return None
    try:
        text = read_text(folder / "README.md", MAX_CARD_BYTES)
    except (OSError, ValueError):
        return None
    header = text[4:].partition("\n---")[0] if text.startswith("---\n") else ""
    found = parse_config(header).values.get("license") if header else None
    return found if isinstance(found, str) and LICENSE.fullmatch(found) else None


def _passport(adapter: Path) -> dict[str, Any]:
    try:
        return read_json_object(adapter / PASSPORT)
    except ModelError:
        return {}


def _dict(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
