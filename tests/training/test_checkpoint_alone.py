"""A checkpoint that is copied out of its run shows the curves up to its step."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lora_backend.runs.checkpoints.manifest import verified
from lora_backend.runs.foreign.foreign_folder import open_folder
from tests.run_files import points_of
from tests.training.helpers import run

Make = Callable[..., dict[str, Any]]


def test_a_checkpoint_alone_has_the_curves_of_its_run_up_to_its_step(
    config: Make, workspace: Path, tmp_path: Path
) -> None:
    trained = run(workspace, config(max_steps=4, save_steps=2, logging_steps=1))
    alone = Path(shutil.copytree(trained.checkpoints / "checkpoint-2", tmp_path / "elsewhere/checkpoint-2"))
    found = open_folder(alone)
    assert (found.step, found.epoch) == (2, points_of(trained)[1]["epoch"])
    assert found.columns["step"].tolist() == [1, 2]
    assert found.columns["loss"].tolist() == [point["loss"] for point in points_of(trained)[:2]]
    assert found.adapter == alone / "adapter"
    assert verified(alone) == []
    (alone / "metrics.jsonl").unlink()
    assert (open_folder(alone).step, open_folder(alone).columns) == (2, {}), "as an earlier version left it"
    assert verified(alone) == ["metrics.jsonl: missing"]
