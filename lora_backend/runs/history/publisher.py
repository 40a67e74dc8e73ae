"""Publish the finished adapter of a run under its names, whole or not at all."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.os_errors import is_disk_full
from lora_backend.runs.checkpoints.publication import (
    Publication,
    PublicationError,
    is_published_by,
    publication_of,
    refuse_what_stands,
)
from lora_backend.runs.history.replaced_adapters import AdapterBin, publishing
from lora_backend.runs.record.run_store import RunStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Publisher:
    """Publishes the adapter of one run."""

    folder: RunStore
    installation: Installation
    values: Mapping[str, Any]
    """Of its config."""
    bound: bool
    """Whether `output_dir` must lie in an output root."""

    def judged(self) -> Publication | None:
        """Where the adapter would go now. Raises `PublicationError` where it may not, or something stands there."""
        publication = publication_of(self.values, self.installation, bound=self.bound)
        if publication is not None:
            refuse_what_stands(publication, may_replace=self._may_replace(publication))
        return publication

    def publish_or_say_why(self) -> None:
        """A place that may not be used any more is no failure of the run: the adapter is whole in the run's folder."""
        try:
            self.publish()
            return
        except PublicationError as error:
            reason: Any = error.message
        except OSError as error:
            if is_disk_full(error):
                raise
            reason = Message("{path}: {reason}.", {"path": str(error.filename), "reason": error.strerror or str(error)})
        values = {"reason": reason, "folder": str(self.folder.adapter)}
        said = Message(
            N_("The adapter is not published. {reason} It is complete in the run's folder: {folder}"), values
        )
        logger.warning("%s", said)
        with self.folder.changing_status() as status:
            status.attempt.outcome = "finished"
            status.attempt.also(said)

    def publish(self) -> Path | None:
        """Copy the finished adapter to its place by rename, so that it is there whole or not at all.

        The place is judged again, before anything is made there and once more when the copy is ready: hours lie
        between a run's start and its end. What is replaced goes to the bin. Raises `PublicationError` where the adapter
        may not go there (any more), `OSError` where it cannot; then what stood there stands there still.
        """
        publication = self.judged()
        if publication is None:
            return None
        target = publication.path
        target.parent.mkdir(parents=True, exist_ok=True)
        self._refuse_another_place(target)  # a link may have come while the folders were made
        staged = _beside(target)  # a name of its own: two runs may publish to one place at once
        try:
            shutil.copytree(self.folder.adapter, staged, dirs_exist_ok=True)
            with publishing(self.installation.workspace):
                self._put(staged, self._refuse_another_place(target))
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        logger.info("adapter published in %s", target)
        return target

    def _refuse_another_place(self, target: Path) -> Publication:
        publication = self.judged()
        assert publication is not None
        if publication.path != target:
            raise PublicationError(
                "output_dir", N_("{path} has become a link while the adapter was being published."), path=str(target)
            )
        return publication

    def _put(self, staged: Path, publication: Publication) -> None:
        if publication.standing == "nothing":
            staged.rename(publication.path)
            return
        place = AdapterBin(self.installation)
        binned = place.put(publication.path, self.values, self.folder.id)
        try:
            staged.rename(publication.path)
        except BaseException:
            place.take_back(binned, publication.path)
            raise
        logger.info("the adapter that was there is in the bin: %s", binned.path)

    def _may_replace(self, publication: Publication) -> bool:
        """It was told to, or what stands there is its own, of an earlier start."""
        return bool(self.folder.config_as_changed().get("overwrite")) or is_published_by(self.folder, publication.path)


def _beside(target: Path) -> Path:
    """A new empty folder on the same disk."""
    return Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
