"""A fresh adapter that begins with the weights of another: it goes on from its loss, or is refused with what differs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_backend.config.schema import TrainingConfig, default_config
from lora_backend.errors import RunError
from lora_backend.installation import this_installation
from lora_backend.modeling.live_tree import tree_of_model
from lora_backend.modeling.load import load_model
from lora_backend.models.find import find_model
from lora_backend.preflight.path_policy import AnyPath, ModelOutsideError
from lora_backend.preflight.resolve import resolve
from lora_backend.preflight.roots import BrowserRoots
from lora_backend.preflight.startable import judge
from lora_backend.runs.record.run_store import RunStore
from lora_backend.verification.passport import tensors_sha256
from lora_backend.verification.start_adapter import why_not_begin_with
from tests.run_files import attempt_of, points_of
from tests.tiny import make_model
from tests.training.helpers import adapter_bytes, curve, failed_run, resumed, run, stopped_at

Make = Callable[..., dict[str, Any]]
HELD_BACK: dict[str, Any] = {"val_size": 0.25, "eval_strategy": "epoch", "num_epochs": 1}


@pytest.fixture
def first(config: Make, workspace: Path) -> RunStore:
    """A run that has learned something, with the loss of its held-back rows."""
    return run(workspace, config(**HELD_BACK))


def last(folder: RunStore, key: str) -> float:
    return [float(row[key]) for row in points_of(folder) if key in row][-1]


def test_the_loss_goes_on_from_the_adapters_own(first: RunStore, config: Make, workspace: Path) -> None:
    """With a rate that moves nothing: the loss of the same held-back rows, before and after."""
    still = {**HELD_BACK, "learning_rate": 1e-12}
    fresh = run(workspace, config(**still))
    again = run(workspace, config(**still, init_from_adapter=str(first.adapter)))
    assert last(again, "eval_loss") == pytest.approx(last(first, "eval_loss"), rel=1e-6)
    assert last(fresh, "eval_loss") != pytest.approx(last(first, "eval_loss"), rel=1e-3)
    hash_of_first = tensors_sha256(first.adapter)
    assert attempt_of(again)["init_adapter_sha256"] == hash_of_first
    passport = json.loads((again.adapter / "flightdeck.json").read_text())
    assert [start["init_adapter_sha256"] for start in passport["starts"]] == [hash_of_first]
    assert "begins with the weights" in again.train_log.read_text()
    trained = run(workspace, config(**HELD_BACK, init_from_adapter=str(first.path)))  # the folder of its run will do
    assert last(trained, "eval_loss") < last(first, "eval_loss"), "it trains on"


def test_a_resume_goes_on_without_the_adapter_and_to_the_bit(first: RunStore, config: Make, workspace: Path) -> None:
    values = config(init_from_adapter=str(first.adapter), save_steps=2)
    whole = run(workspace, values)
    begun = stopped_at(workspace, values, 3)
    with pytest.raises(RunError, match="init_from_adapter"):
        resumed(begun, {"init_from_adapter": str(whole.adapter)})
    stopped = stopped_at(workspace, values, 3)
    shutil.rmtree(first.adapter)
    resumed(stopped)
    assert (curve(whole), adapter_bytes(whole)) == (curve(stopped), adapter_bytes(stopped))
    _, sentence = failed_run(workspace, values)
    assert "init_from_adapter" in sentence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"r": 8}, ("rank 4", "asks for 8", "`r`")),
        ({"rank_pattern": {"q_proj": 2}}, ("q_proj", "rank 4", "asks for 2")),
        ({"alpha": 4}, ("scaled by 2", "by 1", "`alpha`")),
        ({"use_rslora": True}, ("scaled", "`use_rslora`")),
        ({"use_dora": True}, ("`use_dora: false`",)),
        ({"bias": "all"}, ("`bias: none`",)),
        ({"target_modules": ["q_proj"]}, ("12 beyond it", "`target_modules`")),
        ({"target_layers": [1]}, ("7 beyond it", "`target_layers`")),
        ({"modules_to_save": ["lm_head"]}, ("lm_head", "`modules_to_save`")),
    ],
    ids=str,
)
def test_what_differs_is_named_with_its_remedy(
    changes: dict[str, Any], words: tuple[str, ...] | None, config: Make, workspace: Path, saved: Path
) -> None:
    values = default_config() | config(**changes)
    model = find_model(values["model_name"])
    tree = tree_of_model(load_model(TrainingConfig(**config())))
    said = why_not_begin_with(values, saved, model, find_model, tree)
    if words is None:
        assert said is None
        return
    assert said is not None
    assert all(word in said.text("en") for word in words), said.text("en")
    resolved = resolve(config(**changes, init_from_adapter=str(saved)), this_installation(), AnyPath(workspace))
    blockers = [one.message.text("en") for one in judge(resolved).blockers if one.key == "init_from_adapter"]
    is_of_the_tree = changes.keys() & {"target_modules", "target_layers", "modules_to_save"}
    # The model's modules are known to a check where somebody has planned it.
    assert blockers == [said.text("en")] or (is_of_the_tree and not blockers)


@pytest.fixture
def saved(config: Make, tmp_path: Path) -> Path:
    """An adapter of the config as it comes."""
    from lora_backend.modeling.adapter import attach_adapter, save_adapter

    asked = TrainingConfig(**config())
    torch.manual_seed(0)
    save_adapter(attach_adapter(load_model(asked), asked), tmp_path / "saved")
    return tmp_path / "saved"


def test_other_targets_are_refused_before_the_first_step(saved: Path, config: Make, workspace: Path) -> None:
    folder, sentence = failed_run(workspace, config(init_from_adapter=str(saved), target_modules=["q_proj"]))
    assert "target_modules" in sentence
    assert not folder.adapter.exists()


def test_another_base_model_is_refused(saved: Path, config: Make, tmp_path: Path) -> None:
    shorter = make_model(tmp_path / "shorter", blocks=1)
    values = default_config() | config(model_name=str(shorter))
    said = why_not_begin_with(values, saved, shorter, find_model)
    assert said is not None
    assert "`model_name`" in said.text("en")


@pytest.mark.parametrize("kind", ["nothing there", "a folder without one", "another method", "pissa"])
def test_what_is_no_such_adapter_is_refused(kind: str, saved: Path, config: Make, workspace: Path) -> None:
    if kind == "nothing there":
        shutil.rmtree(saved)
    elif kind == "a folder without one":
        (saved / "adapter_config.json").unlink()
    else:
        own = json.loads((saved / "adapter_config.json").read_text())
        own |= {"peft_type": "LOHA"} if kind == "another method" else {"init_lora_weights": "pissa"}
        (saved / "adapter_config.json").write_text(json.dumps(own))
    resolved = resolve(config(init_from_adapter=str(saved)), this_installation(), AnyPath(workspace))
    (blocker,) = (one for one in judge(resolved).blockers if one.key == "init_from_adapter")
    assert blocker.code == "init_from_adapter_unusable"
    assert resolved.result.is_valid, "the text may be meant for another machine"
    words = {"nothing there": "no adapter folder", "a folder without one": "no adapter", "another method": "LOHA", "pissa": "pissa"}  # fmt: skip
    assert words[kind] in blocker.message.text("en")


def test_the_browser_may_name_one_below_its_roots_only(saved: Path, config: Make, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:  # fmt: skip
    policy = BrowserRoots(this_installation())
    assert policy.adapter(str(saved)) == saved
    outside = tmp_path_factory.mktemp("outside") / "adapter"
    shutil.copytree(saved, outside)
    with pytest.raises(ModelOutsideError, match="outside"):
        policy.adapter(str(outside))
    resolved = resolve(config(init_from_adapter=str(outside)), this_installation(), policy)
    assert "init_from_adapter" in resolved.escapes
    assert not resolved.result.is_valid
