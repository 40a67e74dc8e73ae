"""How to make a run again: its config, the command, and what is not as it was when the run was made."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import dump_yaml, setting_of
from lora_backend.config.copying import start_verb
from lora_backend.config.data_now import sha256_now
from lora_backend.config.diff import ABSENT, same_value
from lora_backend.config.named_data import trained_on
from lora_backend.errors import ModelError
from lora_backend.i18n import Message
from lora_backend.models.find import find_model
from lora_backend.runs.checkpoints.starts import spans_of
from lora_backend.runs.record.provenance import PROGRAM, code_of, version_of
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.surroundings import (
    Surroundings,
    base_differences,
    differences_of_starts,
    last_start,
    surroundings_of,
)


@dataclass(frozen=True)
class ThenNow:
    """What the run recorded, and what is there now; None where nobody can say."""

    then: str | None
    now: str | None

    @property
    def differs(self) -> bool | None:
        """None where one side is not known."""
        return None if self.then is None or self.now is None else self.then != self.now


@dataclass(frozen=True)
class Reproduction:
    """What it takes to make a run again."""

    config_text: str
    """The config as it was written, comments and all."""
    command: str | None
    """Trains it again, as a new run; None for a run on a caller's own batches, or without its config file."""
    dataset: str | None
    data_sha256: ThenNow
    """`then` is what the last steps were trained on; `now` is None where the file is not there (any more)."""
    data_of_steps: Sequence[Mapping[str, Any]]
    """Where the data was changed while the run was trained: which steps were trained on which, in order."""
    versions: Mapping[str, ThenNow]
    """Package → version at the last start, for those alone that are not as they were; also `python` and `platform`."""
    base_model: Sequence[Message]
    """What of the base model is not as it was at the last start."""
    starts: Sequence[tuple[int, Sequence[Message]]]
    """Number of each start that was made by other things than the one before, and by which."""
    commit: ThenNow
    """Of the program."""
    was_modified: bool | None
    """Whether the program had changes then that no commit holds; `is_modified`: now."""
    is_modified: bool | None
    later_changes: Mapping[str, Any]
    """Keys that were changed when the run was resumed: the command gives them from the first step on."""

    @property
    def is_as_recorded(self) -> bool:
        """Whether nothing that was recorded is known to be different now."""
        differs = self.versions or self.data_sha256.differs or self.commit.differs or self.is_modified
        return not (differs or self.data_of_steps or self.base_model or self.starts)

    def to_json(self) -> dict[str, Any]:
        starts = [{"start": number, "differences": list(map(str, said))} for number, said in self.starts]
        return asdict(self) | {"base_model": list(map(str, self.base_model)), "starts": starts}


def reproduction(run: RunStore, program: Path = PROGRAM, files: Mapping[str, Any] | None = None) -> Reproduction:
    """What it takes to make `run` again. Reads the data set once, for its hash; changes nothing.

    `files`: the `dataset` and `model_name` that may be read, where not the config's own: a run that was copied here may
    name any. Raises `RunError` where the folder is no run.
    """
    record = run.read_record()
    config, begun = record.config, surroundings_of(record).with_later(last_start(run))
    spans = [span.to_json() for span in spans_of(run)]
    changed = run.config_as_changed()
    files = config if files is None else files
    code_then, code_now = begun.code, code_of(program)
    return Reproduction(
        config_text=run.config_text() or dump_yaml(config),
        command=_command(run, changed) if record.argv and run.config_text() is not None else None,
        dataset=", ".join(named.path for named in trained_on(config)) or None,
        data_sha256=ThenNow(begun.data_sha256, sha256_now(files)),
        data_of_steps=spans if len({span["data_sha256"] for span in spans}) > 1 else [],
        versions=_versions(begun),
        base_model=base_differences(begun, _base(files)),
        starts=differences_of_starts(run),
        commit=ThenNow(code_then.commit if code_then else None, code_now.commit if code_now else None),
        was_modified=code_then.is_modified if code_then else None,
        is_modified=code_now.is_modified if code_now else None,
        later_changes={key: value for key, value in changed.items() if not same_value(value, config.get(key, ABSENT))},
    )


def _base(files: Mapping[str, Any]) -> Path | None:
    try:
        return find_model(str(files["model_name"])) if files.get("model_name") else None
    except ModelError:
        return None


def _command(run: RunStore, config: Mapping[str, Any]) -> str:
    """`train` with the run's own file, and as options what ran otherwise than the file says: bound paths, for one."""
    written = parse_config(run.config_text() or "").values
    options = [
        word
        for key, value in config.items()
        if not same_value(value, written.get(key, ABSENT))
        for word in ("--set", setting_of(key, value))
    ]
    verb = start_verb(config).split()
    return shlex.join(["python", "-m", "lora_backend", *verb, str(run.config_yaml), *options])


def _versions(begun: Surroundings) -> dict[str, ThenNow]:
    sides = {name: ThenNow(then, version_of(name)) for name, then in (begun.versions or {}).items()}
    now = ((begun.python, "python", platform.python_version()), (begun.platform, "platform", platform.platform()))
    sides |= {name: ThenNow(then, found) for then, name, found in now if then}
    return {name: side for name, side in sides.items() if side.then != side.now}
