"""Every run that was measured says what its plan expected for that very pass, whatever its rows were like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

from lora_backend import buildandTrainLoraModel
from lora_backend.errors import UntraceableError
from lora_backend.installation import this_installation
from lora_backend.modeling import profiling
from lora_backend.modeling.profiling import profile_for
from lora_backend.preflight import expected_memory
from lora_backend.preflight.expected_memory import expected_here
from lora_backend.preflight.plan_vs_measured import Comparison, compare
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.run_store import RunStore, list_runs
from tests.often import often
from tests.resolving import from_here
from tests.run_files import attempt_of
from tests.tiny import chats, save_tokenizer, write_rows
from tests.training.helpers import run

Make = Callable[..., dict[str, Any]]
EQUAL: list[dict[str, Any]] = [
    {"prompt": "how tall is the tower " * 8, "completion": "the tower is nine metres tall"}
] * 8
UNLABELLED = [
    {"prompt": "how tall is the tower " * number, "completion": "nine metres tall"} for number in range(5, 13)
]
CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "padded rows": (chats(), {}),
    "rows of one length": (EQUAL, {}),
    "all cut at max_length": (EQUAL, {"max_length": 44, "gradient_checkpointing": True}),
    "one row": (chats(), {"batch_size": 1}),
    "passes that add up": (EQUAL, {"batch_size": 2, "target_batch_size": 4, "r": 32}),
    "chunked loss, most tokens without a label": (UNLABELLED, {"loss_type": "chunked_nll"}),
    "chunked loss, rows of one length": (EQUAL, {"loss_type": "chunked_nll", "gradient_checkpointing": True}),
}
ALWAYS = (
    "padded rows",
    "all cut at max_length",
    "one row",
    "passes that add up",
    "chunked loss, most tokens without a label",
)
"""Each kind of rows and each key; `make soak` has the others together as well."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Large enough for what is counted; the tiny model's tensors are as small as an optimizer's counters."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 768, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3,
    }  # fmt: skip
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(folder)
    save_tokenizer(folder)
    return str(folder)


def compared(folder: RunStore, cache: Path) -> Comparison:
    """Where nothing is known but what the run's own files say."""
    installation = this_installation({"FLIGHTDECK_HOME": str(cache)})
    (found,) = compare(folder.read_attempt(), folder.read_record().config, installation)
    return found


@pytest.mark.parametrize("case", often(CASES, ALWAYS))
def test_planned_stands_beside_measured(case: str, model: str, config: Make, workspace: Path, tmp_path: Path) -> None:
    rows, keys = CASES[case]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    folder = run(workspace, config(model_name=model, dataset=str(data), max_steps=2, **keys))
    found = compared(folder, tmp_path / "elsewhere")
    assert found.difference == pytest.approx(0, abs=0.01)
    assert found.expected is not None
    assert found.measured is not None
    for name in ("weights", "adapter", "gradients"):
        assert found.expected[name] == found.measured[name]
    assert (found.measured_bytes or 0) <= found.planned_at_most


def test_so_does_it_for_a_callers_own_batches(model: str, config: Make, workspace: Path, tmp_path: Path) -> None:
    ids = torch.randint(4, 20, (4, 24))
    rows: Any = [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row} for row in ids]
    values = config(model_name=model, dataset=..., target_batch_size=8, max_steps=2)
    buildandTrainLoraModel(values, DataLoader(rows, batch_size=2), pkg="pkg", version="1.0.0")
    (folder,) = list_runs(workspace / "runs")
    assert compared(folder, tmp_path / "elsewhere").difference == pytest.approx(0, abs=0.01)


def test_a_formula_has_its_figures_too(
    config: Make, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untraceable(*_: Any, **__: Any) -> Any:
        raise UntraceableError("It needs values.")

    monkeypatch.setattr(profiling, "trace_profile", untraceable)
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "home"))
    data = write_rows(tmp_path / "rows.jsonl", EQUAL)
    folder = run(workspace, config(dataset=str(data), max_steps=2))
    assert attempt_of(folder)["plan"]["method"] == "formula"
    assert compared(folder, tmp_path / "elsewhere").expected_bytes


def test_a_run_that_failed_after_its_measurement_has_them_as_well(
    model: str, config: Make, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError("no room")

    monkeypatch.setattr("lora_backend.training.recipe.save_adapter", fails)
    data = write_rows(tmp_path / "rows.jsonl", EQUAL)
    with pytest.raises(OSError, match="no room"):
        run(workspace, config(model_name=model, dataset=str(data), max_steps=2))
    (folder,) = list_runs(workspace / "runs")
    assert compared(folder, tmp_path / "elsewhere").difference == pytest.approx(0, abs=0.01)


def test_a_run_is_what_it_is_where_its_measured_step_cannot_be_planned(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is trained, or has an error of its own to tell."""

    def broken(*_: Any) -> None:
        raise KeyError("a family's own fault")

    monkeypatch.setattr(expected_memory, "expected_by_device", broken)
    assert expected_here(from_here({"model_name": "m"}), Attempt(), profile_for) == []
    assert "a family's own fault" in caplog.text
