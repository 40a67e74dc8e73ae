"""Who answers in a chat, as an address or a command says it: `base`, `run:<id>`, `run:<id>/<step>`, or an adapter's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_backend.chats.documents import MOST_COLUMNS
from lora_backend.errors import ChatError, ModelError
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.preflight.path_policy import PathPolicy
from lora_backend.preflight.roots import allowed_adapter
from lora_backend.runs.checkpoints.manifest import checkpoints_of, step_of
from lora_backend.runs.record.job_documents import Column
from lora_backend.runs.record.run_store import open_run
from lora_backend.runs.record.unlinked import refuse_links
from lora_backend.verification.adapter_folder import adapter_within, read_adapter_config

BASE = "base"
"""The word for the base model alone, and its column's label."""
OF_A_RUN = "run:"
SEPARATOR = ";"


@dataclass(frozen=True)
class AskedAdapter:
    """An adapter that can answer."""

    label: str
    folder: Path
    base_model: str
    """As `model_name` of a config; empty where the adapter does not say."""
    run_id: str | None = None
    """Of the run that made it."""

    @property
    def column(self) -> Column:
        return Column(label=self.label, adapter=str(self.folder))


@dataclass(frozen=True)
class AskedColumns:
    """Who answers, of which base model."""

    base_model: str
    columns: tuple[Column, ...]


def columns_of(words: str, installation: Installation, policy: PathPolicy, base_model: str = "") -> AskedColumns:
    """What `words` name, with `;` between several: one adapter has its base model beside it, several stand as they are
    named, and one with a `;` behind it stands alone. `base_model` is that of an adapter that does not name its own.

    Raises `ChatError` for too many, and for adapters of several base models; `FlightdeckError` for one that is not there.
    """
    named = list(dict.fromkeys(word.strip() for word in words.split(SEPARATOR) if word.strip()))
    found = {word: adapter_of(word, installation) for word in named if word != BASE}
    base = base_model or next((adapter.base_model for adapter in found.values() if adapter.base_model), "")
    for adapter in found.values():
        _refuse_other_base(adapter, base, policy)
    if SEPARATOR not in words and BASE not in named:
        named.insert(0, BASE)
    if len(named) > MOST_COLUMNS:
        raise ChatError(
            N_(
                "{count} models are named, but only up to {most} can answer side by side. Remove some from the address."
            ),
            count=len(named),
            most=MOST_COLUMNS,
        )
    return AskedColumns(base, with_base([found.get(word) for word in named]))


def with_base(adapters: Sequence[AskedAdapter | None]) -> tuple[Column, ...]:
    """Columns of adapters, None being the base model; no two have the same label."""
    columns: list[Column] = []
    for adapter in adapters:
        column = Column(label=BASE, adapter=None) if adapter is None else adapter.column
        taken, number = {one.label for one in columns} | ({BASE} if adapter else set()), 2
        label = column.label
        while label in taken:
            label, number = f"{column.label} ({number})", number + 1
        columns.append(column.but(label=label))
    return tuple(columns)


def words_of(columns: Sequence[Column], installation: Installation) -> str:
    """What `columns_of` reads as these columns."""
    words = [BASE if column.adapter is None else word_of(Path(column.adapter), installation) for column in columns]
    if len(words) == 2 and words[0] == BASE:
        return words[1]
    return SEPARATOR.join(words) + (SEPARATOR if len(words) == 1 and words != [BASE] else "")


def word_of(adapter: Path, installation: Installation) -> str:
    """How an address names an adapter: short where it is a run's or a checkpoint's, else by its folder."""
    if not adapter.is_relative_to(installation.runs):
        return str(adapter)
    parts = adapter.relative_to(installation.runs).parts
    if parts[1:] == ("adapter",):
        return f"{OF_A_RUN}{parts[0]}"
    if len(parts) == 4 and parts[1] == "checkpoints" and (step := step_of(Path(parts[2]))) is not None:
        return f"{OF_A_RUN}{parts[0]}/{step}"
    return str(adapter)


def adapter_of(word: str, installation: Installation) -> AskedAdapter:
    """The adapter that a word names. Raises `FlightdeckError` where there is none."""
    if not word.startswith(OF_A_RUN):
        folder = allowed_adapter(word, installation)
        own = read_adapter_config(folder) if folder.is_dir() else None
        if own is None:
            raise ModelError(
                N_(
                    "The folder {path} contains no adapter: it has no adapter_config.json. Name the folder that has one."
                ),
                path=word[:200],
            )
        return AskedAdapter(_name_of(folder), folder, str(own.get("base_model_name_or_path") or ""))
    run_id, _, step = word.removeprefix(OF_A_RUN).partition("/")
    run = open_run(installation.runs, run_id)
    name, base = run.read_record().name or run.id, str(run.read_record().config.get("model_name") or "")
    if not step:
        refuse_links(run.path, "adapter")
        if not run.adapter.is_dir():
            raise ChatError(
                N_("Run {id} has no adapter yet. Wait until it has finished, or name one of its checkpoints."),
                id=run.id,
            )
        return AskedAdapter(name, run.adapter, base, run.id)
    checkpoint = run.checkpoints / f"checkpoint-{step}"
    if checkpoint not in checkpoints_of(run):
        raise ChatError(N_("Run {id} has no checkpoint of step {step}."), id=run.id, step=step[:20])
    refuse_links(run.path, f"checkpoints/{checkpoint.name}")
    return AskedAdapter(f"{name} @ {step}", adapter_within(checkpoint), base, run.id)


def _refuse_other_base(adapter: AskedAdapter, base: str, policy: PathPolicy) -> None:
    if not adapter.base_model or is_same_model(adapter.base_model, base, policy):
        return
    raise ChatError(
        N_("{adapter} was trained on {own}, not on {base}. Only adapters of one base model can answer side by side."),
        adapter=adapter.label,
        own=adapter.base_model,
        base=base,
    )


def is_same_model(one: str, other: str, policy: PathPolicy) -> bool:
    """Whether two names lead to the same folder; names of what is not here are compared as they are."""
    if one == other:
        return True
    try:
        return policy.model(one).resolve() == policy.model(other).resolve()
    except (ModelError, OSError):
        return False


def _name_of(folder: Path) -> str:
    """A folder's own name; of one that is called like any other, its parent's with it."""
    return f"{folder.parent.name}/{folder.name}" if folder.parent.name else folder.name
