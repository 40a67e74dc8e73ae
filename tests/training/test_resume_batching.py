"""A resume is bit-identical however rows share a pass, and another way of it is taken up or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_backend.errors import RunError
from lora_backend.i18n import Message
from lora_backend.trainer.direct_run import train_in_folder
from lora_backend.training import batching, loop
from tests.run_files import attempt_of, points_of
from tests.tiny import prompts, write_rows
from tests.training.helpers import adapter_bytes, curve, made_ready, resumed, run, stopped_at

Make = Callable[..., dict[str, Any]]
HARD: dict[str, Any] = {
    "lora_dropout": 0.1, "batch_size": 2, "target_batch_size": 4, "num_epochs": 2, "save_steps": 100, "val_size": 0.25,
    "eval_strategy": "epoch", "lr_scheduler_type": "cosine",
}  # fmt: skip


@pytest.fixture
def uneven(tmp_path: Path) -> str:
    rows = [row | {"completion": f"{row['completion']} " * (index % 3 + 1)} for index, row in enumerate(prompts(5))]
    return str(write_rows(tmp_path / "uneven.jsonl", rows))


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"batching": "padded"}, (1, 3)),
        ({"batching": "flat"}, (1, 3)),
        ({"batching": "packed", "max_length": 32, "batch_size": 1, "target_batch_size": 2}, (1, 4)),
        (
            {
                "batching": "packed",
                "max_length": 24,
                "batch_size": 1,
                "target_batch_size": 2,
                "share": 0.5,
                "num_epochs": 4,
            },
            (4,),
        ),
        ({"batching": "auto"}, (2,)),
    ],
    ids=["padded", "flat", "packed", "packed, epochs of other rows", "in length groups"],
)
def test_a_run_stopped_at_any_step_goes_on_to_the_bit(
    changes: dict[str, Any], steps: tuple[int, ...], config: Make, workspace: Path, uneven: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    changes = dict(changes)
    if changes["batching"] == "auto":
        monkeypatch.setattr(batching, "why_not_flat", lambda *_: Message("It cannot."))
    rows: dict[str, Any] = {"dataset": uneven}
    if "share" in changes:
        rows = {"dataset": ..., "datasets": [{"path": uneven, "share": changes.pop("share")}]}
    values = config(**HARD | changes | rows)
    whole = run(workspace, values)
    assert len(points_of(whole)) >= 6
    for step in steps:
        folder = resumed(stopped_at(workspace, values, step))
        assert attempt_of(folder)["from_step"] == step
        assert curve(folder) == curve(whole)
        assert adapter_bytes(folder) == adapter_bytes(whole)


def test_between_flat_and_padded_a_run_goes_on_close_to_as_before(config: Make, workspace: Path, uneven: str) -> None:
    values = config(**HARD | {"lora_dropout": 0, "batching": "flat", "dataset": uneven})
    whole = run(workspace, values)
    folder = resumed(stopped_at(workspace, values, 3), {"batching": "padded"})
    assert attempt_of(folder)["batching"] == "padded"
    losses = [[point["loss"] for point in points_of(one) if "loss" in point] for one in (folder, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize(("before", "after"), [("packed", "auto"), ("flat", "packed")])
def test_to_and_from_packed_a_resume_is_refused(before: str, after: str, config: Make, workspace: Path) -> None:
    folder = stopped_at(workspace, config(**HARD | {"batching": before}), 1)
    made_ready(folder, {"batching": after})
    with pytest.raises(RunError, match=f"Keep `batching: {before}`"):
        train_in_folder(folder)


@pytest.mark.parametrize(("size", "later"), [(2, 4), (4, 1)])
def test_a_resume_in_smaller_or_larger_batches_trains_each_row_of_the_epoch_once(
    size: int, later: int, config: Make, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place in the data is counted in batches, which are others after it."""
    words = [f"{word} {other}" for word in ("tower", "bridge", "door", "train") for other in ("nine", "green", "noon", "anna")]  # fmt: skip
    data = str(write_rows(tmp_path / "words.jsonl", [{"prompt": "how tall", "completion": one} for one in words]))
    seen: Counter[tuple[int, ...]] = Counter()
    step = loop.passes

    def counted(training: Any, state: Any, reporter: Any, window: Any) -> bool:
        is_done = step(training, state, reporter, window)
        for batch in window if is_done else ():
            seen.update(tuple(ids.tolist()) for ids in batch["input_ids"][0].split(list(batch["lengths"])))
        return is_done

    monkeypatch.setattr(loop, "passes", counted)
    values = config(dataset=data, num_epochs=1, batch_size=size, target_batch_size=4, batching="flat")
    folder = resumed(stopped_at(workspace, values, 2), {"batch_size": later})
    assert folder.state().step == 4
    assert set(seen.values()) == {1}
    assert len(seen) == 16
