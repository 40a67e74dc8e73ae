"""Write the finished adapter into its run and publish it under its names, each whole or not at all."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from peft import PeftModel

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import RunError
from lora_backend.i18n import N_
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


def publish(adapter: Path, target: Path, *, replace: bool) -> None:
    """Copy a finished adapter to `target` by rename, so that it is there whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        shutil.copytree(adapter, staged)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    if replace and target.exists():
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        staged.rename(target)
        shutil.rmtree(old)
    else:
        staged.rename(target)
    logger.info("adapter published in %s", target)
