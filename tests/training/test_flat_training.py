"""Rows without padding train what padded ones train: the same rows in each step, the same losses and gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import get_peft_model_state_dict

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ConfigError, ModelError
from lora_backend.i18n import Message
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.load import load_model, load_tokenizer
from lora_backend.runs.record.run_store import RunStore
from lora_backend.tokens import token_rows
from lora_backend.tokens.label_rows import label_rows
from lora_backend.tokens.labels import LabelRules
from lora_backend.training import batching, loop
from lora_backend.training.assembly import Data, assemble, fresh_state
from lora_backend.training.flat_batch import Batch, is_flat
from lora_backend.training.loop import fit
from lora_backend.training.reporter import RunReporter
from tests.run_files import attempt_of, points_of
from tests.tiny import ANSWERS, QUESTIONS, prompts
from tests.training.helpers import failed_run, run

Make = Callable[..., dict[str, Any]]
Rows = list[list[int]]
PLAIN: dict[str, Any] = {"optim": "sgd", "max_grad_norm": 0, "learning_rate": 0.05, "num_epochs": 2, "loss_type": "nll", "lora_dropout": 0}  # fmt: skip
"""An update is as large as its gradient, so that what differs of adapters is what differs of gradients."""
CASES: dict[str, dict[str, Any]] = {
    "one batch a step": {"batch_size": 4},
    "accumulated, the last step and its last batch smaller": {"batch_size": 3, "target_batch_size": 6},
    "one row at a time": {"batch_size": 1, "target_batch_size": 4},
    "checkpointing, the loss of answers only": {"batch_size": 4, "gradient_checkpointing": True, "loss_type": "chunked_nll"},
}  # fmt: skip


def uneven(count: int = 14) -> list[dict[str, object]]:
    """Prompts and answers of very different lengths."""
    pairs = [(QUESTIONS[index % 4], ANSWERS[index % 4]) for index in range(count)]
    return [{"prompt": f"{q} " * (index % 3 + 1), "completion": f"{a} " * (index % 4 + 1)} for index, (q, a) in enumerate(pairs)]  # fmt: skip


class Trained:
    """What a training has come to: its points, its adapter, and the rows of each of its steps."""

    def __init__(self, folder: Path, values: dict[str, Any], *, takes_count: bool = True) -> None:
        config = TrainingConfig(**values)
        torch.manual_seed(config.seed)
        model = attach_adapter(load_model(config), config)
        model.get_base_model().accepts_loss_kwargs = takes_count
        tokenizer = load_tokenizer(config.model_name)
        rows: Dataset = label_rows(uneven(), tokenizer, LabelRules(64))
        data = Data(rows.select(range(3, len(rows))), rows.select(range(3)), tokenizer)
        self.training = assemble(model, config, "fp32", data)
        folder.mkdir()
        store = RunStore(folder)
        self.steps: list[list[Rows]] = []
        with pytest.MonkeyPatch.context() as patch:
            real = loop.passes

            def watched(training: Any, state: Any, reporter: Any, window: Any) -> bool:
                self.steps.append([rows_in(batch) for batch in window])
                return real(training, state, reporter, window)

            patch.setattr(loop, "passes", watched)
            fit(self.training, fresh_state(model, self.training), RunReporter(store))
        self.points = points_of(store)
        self.adapter = get_peft_model_state_dict(model)

    @property
    def rows_of_steps(self) -> list[Rows]:
        return [sorted(row for batch in step for row in batch) for step in self.steps]


def rows_in(batch: Batch) -> Rows:
    if is_flat(batch):
        return [ids.tolist() for ids in batch["input_ids"][0].split(list(batch["lengths"]))]
    return [ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]


def assert_close(one: Trained, other: Trained) -> None:
    """To float error."""
    assert len(one.points) == len(other.points) > 2
    for mine, theirs in zip(one.points, other.points, strict=True):
        for key in ("step", "epoch", "loss", "eval_loss", "grad_norm", "learning_rate"):
            assert (key in mine) is (key in theirs)
            assert mine.get(key, 0) == pytest.approx(theirs.get(key, 0), rel=2e-5, abs=1e-12), (mine["step"], key)
    assert one.adapter.keys() == other.adapter.keys()
    for name, value in one.adapter.items():
        torch.testing.assert_close(value, other.adapter[name], rtol=1e-4, atol=1e-6, msg=name)
    assert any("lora_B" in name and value.abs().max() > 1e-4 for name, value in one.adapter.items()), "it has trained"


@pytest.mark.parametrize("takes_count", [True, False], ids=["weighted by tokens", "each batch averaged"])
@pytest.mark.parametrize("case", CASES)
def test_flat_trains_what_padded_trains(case: str, takes_count: bool, config: Make, tmp_path: Path) -> None:
    values = config(**PLAIN | CASES[case] | {"eval_strategy": "epoch", "val_size": 0.2})
    ways = [Trained(tmp_path / way, values | {"batching": way}, takes_count=takes_count) for way in ("padded", "flat")]
    assert [one.training.batching.way for one in ways] == ["padded", "flat"]
    assert ways[0].steps == ways[1].steps, "the same rows in each batch"
    assert any("eval_loss" in point for point in ways[0].points)
    assert_close(*ways)


def test_packed_rows_have_the_losses_and_gradients_that_they_have_padded(config: Make, tmp_path: Path) -> None:
    """In one step an epoch, so that both have the same rows in it; lines of 48 tokens hold one to eight of them."""
    whole = {"num_epochs": 3, "max_length": 48, "eval_strategy": "epoch", "val_size": 0.2}
    padded = Trained(tmp_path / "padded", config(**PLAIN | whole | {"batching": "padded", "batch_size": 4, "target_batch_size": 12}))  # fmt: skip
    packed = Trained(tmp_path / "packed", config(**PLAIN | whole | {"batching": "packed", "batch_size": 2, "target_batch_size": 40}))  # fmt: skip
    assert packed.training.batching.way == "packed"
    assert packed.rows_of_steps == padded.rows_of_steps
    assert len(packed.steps[0]) > 1
    assert all(sum(map(len, batch)) <= 96 for step in packed.steps for batch in step)
    for trained in (padded, packed):  # rows of other batches have another mean where each row counts alike
        trained.points = [point for point in trained.points if "loss" in point]
    assert_close(padded, packed)


def test_length_groups_leave_a_step_its_rows_its_loss_and_its_gradients(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = config(**PLAIN | {"batch_size": 2, "target_batch_size": 6})
    padded = Trained(tmp_path / "padded", values | {"batching": "padded"})
    monkeypatch.setattr(batching, "why_not_flat", lambda *_: Message("It cannot."))
    grouped = Trained(tmp_path / "grouped", values)
    assert (grouped.training.batching.way, grouped.training.batching.in_length_groups) == ("padded", True)
    assert grouped.rows_of_steps == padded.rows_of_steps
    assert grouped.steps != padded.steps
    assert_close(grouped, padded)


@pytest.mark.parametrize(
    ("changes", "takes_count"), [({"batch_size": 4}, True), ({"batch_size": 2, "target_batch_size": 6}, False)]
)
def test_where_groups_would_change_the_mean_or_nothing_rows_stay_where_they_are(
    changes: dict[str, Any], takes_count: bool, config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "why_not_flat", lambda *_: Message("It cannot."))
    values = config(**PLAIN | changes)
    left = Trained(tmp_path / "left", values, takes_count=takes_count)
    padded = Trained(tmp_path / "padded", values | {"batching": "padded"}, takes_count=takes_count)
    assert not left.training.batching.in_length_groups
    assert left.steps == padded.steps
    assert left.points[-1]["loss"] == padded.points[-1]["loss"]


def test_a_model_that_cannot_is_trained_padded_and_log_and_attempt_say_why(config: Make, workspace: Path) -> None:
    folder = run(workspace, config(max_steps=1, attn_implementation="eager"))
    attempt = folder.read_attempt()
    assert attempt.batching == "padded"
    assert attempt.batching_note is not None
    assert f"batching: padded. {attempt.batching_note.text('en')}" in folder.train_log.read_text()


@pytest.mark.parametrize("way", ["flat", "packed"])
def test_asked_for_of_a_model_that_cannot_it_is_refused_with_what_to_do(
    way: str, config: Make, workspace: Path
) -> None:
    _, sentence = failed_run(workspace, config(batching=way, attn_implementation="eager"), ModelError)
    assert f"`batching: {way}`" in sentence
    assert "Set `batching: padded`." in sentence


@pytest.mark.parametrize(("asked", "way"), [("auto", "flat"), ("flat", "flat"), ("packed", "packed"), ("padded", "padded")])  # fmt: skip
def test_the_way_stands_in_log_and_attempt(asked: str, way: str, config: Make, workspace: Path) -> None:
    folder = run(workspace, config(batching=asked, max_steps=2))
    assert (attempt_of(folder)["batching"], attempt_of(folder).get("batching_note")) == (way, None)
    assert f"batching: {way}" in folder.train_log.read_text()
    measured = attempt_of(folder)["measured"]
    assert ("lengths" in measured) is (way != "padded")


def test_the_steps_of_packed_lines_are_counted_as_they_come(config: Make, workspace: Path) -> None:
    folder = run(workspace, config(batching="packed", max_length=40, batch_size=1, num_epochs=3))
    points = points_of(folder)
    lengths = sum(len(f"{row['prompt']} {row['completion']} end".split()) for row in prompts())
    assert folder.state().total_steps == len(points) == 3 * (len(points) // 3)
    assert len(points) < 3 * 16, "several rows in a line"
    assert len(points) // 3 >= lengths / 40
    assert points[-1]["epoch"] == 3
    assert [point["epoch"] for point in points] == [pytest.approx(step / (len(points) // 3)) for step in range(1, len(points) + 1)]  # fmt: skip


def test_rows_too_many_to_know_their_lengths_are_not_packed(
    config: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_rows, "MOST_KEPT_ROWS", 3)
    _, sentence = failed_run(workspace, config(batching="packed"), ConfigError)
    assert "`batching: packed`" in sentence
    assert "of 16 rows" in sentence
    assert "Set `batching: flat`." in sentence


def test_rows_that_are_labelled_as_training_goes_are_trained_flat(
    config: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beforehand = run(workspace, config(num_epochs=2))
    monkeypatch.setattr(token_rows, "MOST_KEPT_ROWS", 3)
    lazily = run(workspace, config(num_epochs=2))
    assert attempt_of(lazily)["batching"] == "flat"
    assert [point["loss"] for point in points_of(lazily)] == [point["loss"] for point in points_of(beforehand)]
