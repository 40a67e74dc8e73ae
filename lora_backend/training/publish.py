"""Write the finished adapter into its run and publish it under its names, each whole or not at all."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from peft import PeftModel

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import RunError
from lora_backend.i18n import N_
from lora_backend.runs.files import lock_file
from lora_backend.runs.waiting import leases_folder
from lora_backend.settings import load_settings

logger = logging.getLogger(__name__)


def save_adapter(model: PeftModel, path: Path) -> None:
    """Write the adapter beside `path`, then put it there in one step."""
    staged = path.with_name(f".{path.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        model.save_pretrained(str(staged), safe_serialization=True)
        staged.rename(path)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)  # its room may be what the run's own files need
        raise
    logger.info("adapter saved in %s", path)


def publication_target(config: TrainingConfig) -> Path | None:
    """Where the adapter goes at the end: `<output_dir>/<pkg>/<version>[/<knowledge_type>]`, below the workspace.

    Raises `RunError` where something stands there and `overwrite` is off, so that it is said before training.
    """
    if not (config.pkg and config.version):
        return None
    parts = [config.pkg, config.version, *filter(None, [config.knowledge_type])]
    target = (load_settings().workspace / Path(config.output_dir).expanduser()).joinpath(*parts)
    if target.exists() and not config.overwrite:
        raise RunError(
            N_("There is already an adapter in {path}. Set `overwrite: true`, or another `version`."), path=str(target)
        )
    return target


def publish(adapter: Path, target: Path, may_replace: Callable[[], bool]) -> bool:
    """Copy a finished adapter to `target` by rename, so that it is there whole or not at all.

    False, and `target` as it is, where an adapter stands there and `may_replace` says no. That is asked when the copy
    is ready: hours lie between the start of a run, where `publication_target` judged the same, and its end.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = _beside(target)  # a name of its own: two runs may publish to one place at once
    try:
        shutil.copytree(adapter, staged, dirs_exist_ok=True)
        with lock_file(_lock()):
            if target.exists() and not may_replace():
                shutil.rmtree(staged)
                return False
            old = target.replace(_beside(target)) if target.exists() else None
            staged.rename(target)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    if old:
        shutil.rmtree(old)
    logger.info("adapter published in %s", target)
    return True


def _lock() -> Path:
    """Held while a published adapter is put in its place, by one run of the workspace at a time."""
    place = leases_folder(load_settings().workspace)
    place.mkdir(parents=True, exist_ok=True)
    return place / "publish.lock"


def _beside(target: Path) -> Path:
    """A new empty folder on the same disk."""
    return Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
