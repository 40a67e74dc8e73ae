"""The adapter that a command is about: named by its folder, its run's folder, its run's id, or an id of the hub's cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.errors import ModelError, RunError
from lora_backend.i18n import N_
from lora_backend.installation import path_of, this_installation
from lora_backend.models.find import ADAPTER_CONFIG, HUB_ID, find_adapter
from lora_backend.runs.record.run_store import RUN_ID, RunStore, open_run
from lora_backend.runs.record.unlinked import DEEPEST, own_adapter, refuse_links_in_its_run
from lora_backend.verification.adapter_folder import adapter_within, read_adapter_config
from lora_backend.verification.passport import start_in_passport


@dataclass(frozen=True)
class Subject:
    """An adapter, and what is known of where it comes from."""

    adapter: Path
    """Its folder, as it was named; it may be relative."""
    run: RunStore | None = None
    """The run whose adapter it is, or one of whose checkpoints."""
    config: dict[str, Any] | None = None
    """By which that run trained it."""
    base_model: str | None = None
    """As run or adapter name it: a folder or a hub id; None where neither does."""
    is_run: bool = False
    """Whether the run itself was named, rather than a folder."""

    @property
    def label(self) -> str:
        """What to call it: the run's name or id and the checkpoint's, or that of the folder."""
        folder = self.adapter.absolute()
        if self.run is None:
            return folder.name
        checkpoint = "" if folder == self.run.adapter else f" {folder.parent.name}"
        return (self.run.read_record().name or self.run.id) + checkpoint


def adapter_of(words: str) -> Subject:
    """The adapter that `words` name. Raises `ModelError` or `RunError` where there is none."""
    subject = subject_of(words)
    if not (subject.adapter / ADAPTER_CONFIG).is_file():
        raise ModelError(
            N_("The folder {path} contains no adapter: it has no adapter_config.json. Name the folder that has one."),
            path=str(subject.adapter),
        )
    return subject


def subject_of(words: str) -> Subject:
    """The same, of a folder that need not hold an adapter: what it lacks is for the caller to say."""
    path = path_of(words)
    if path is None:
        raise ModelError(N_("There is no adapter folder {path}. Check the path."), path=words[:200])
    if not path.exists():
        if RUN_ID.fullmatch(words):
            path = open_run(this_installation().runs, words).path
        elif HUB_ID.fullmatch(words):
            path = find_adapter(words)
    refuse_links_in_its_run(path.absolute())
    if (path / "run.json").is_file():
        return _of_run(RunStore(path.resolve()))
    adapter = adapter_within(path)
    run = _run_around(adapter)
    config = run.config_as_changed(upto=start_in_passport(adapter)) if run is not None else None
    return Subject(adapter, run, config, _base_of(adapter, config))


def _of_run(run: RunStore) -> Subject:
    adapter = own_adapter(run.path)
    if not adapter.is_dir():
        raise RunError(
            N_("Run {id} has no adapter. Let it finish, resume it, or name one of its checkpoints in {folder}."),
            id=run.id,
            folder=str(run.checkpoints),
        )
    config = run.config_as_changed(upto=start_in_passport(adapter))
    return Subject(adapter, run, config, _base_of(adapter, config), is_run=True)


def _run_around(adapter: Path) -> RunStore | None:
    """The run that a folder lies in as its adapter, or as one of a checkpoint's; None for any other."""
    path = adapter.resolve()
    for folder in path.parents[:DEEPEST]:
        run = RunStore(folder)
        if run.run_json.is_file() and (path == run.adapter or run.checkpoints in path.parents):
            return run if run.glance_at_record() is not None else None
    return None


def _base_of(adapter: Path, config: dict[str, Any] | None) -> str | None:
    own = read_adapter_config(adapter) if adapter.is_dir() else None
    name = (config or {}).get("model_name") or (own or {}).get("base_model_name_or_path")
    return str(name) if name else None
