"""The original tool's documented usage, with the prefix of its imports changed and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader
from transformers import DataCollatorForSeq2Seq

from lora_backend.config_checker import check_config_consistency
from lora_backend.loraTrainUtils import buildandTrainLoraModel, check_lora_r_consistency, getEquipAdaptorModel
from lora_backend.modeling.load import load_tokenizer
from lora_backend.runs.record.run_store import list_runs
from lora_backend.tokens.label_rows import label_rows
from lora_backend.tokens.labels import LabelRules
from tests.tiny import chats


def test_build_check_train_and_check_the_config(tiny_model: Path, workspace: Path) -> None:
    config: dict[str, Any] = {
        "model_name": str(tiny_model),
        "r": 16,
        "alpha": 32,
        "target_modules": ["q_proj", "v_proj"],
        "target_layers": [0, 1],
        "num_epochs": 5,
        "learning_rate": 1e-4,
        "batch_size": 4,
        "precision": "fp32",
        "target_batch_size": 8,
        "check_r_consistency": True,
        "strict_r_check": False,
    }
    before = dict(config)

    lora_model = getEquipAdaptorModel(config)
    result = check_lora_r_consistency(lora_model, config)
    assert result["is_consistent"] is True
    assert result["mismatched_layers"] == []
    assert result["expected_r"] == 16
    assert set(result["actual_r_values"].values()) == {16}
    assert len(result["actual_r_values"]) == 4

    tokenizer = load_tokenizer(str(tiny_model))
    rows: Any = label_rows(chats(), tokenizer, LabelRules(64))
    dataloader: DataLoader[Any] = DataLoader(rows, batch_size=4, collate_fn=DataCollatorForSeq2Seq(tokenizer))
    trained_model = buildandTrainLoraModel(
        config=config,
        dataloader=dataloader,
        precision=config["precision"],
        pkg="your_pkg",
        version="1.0.0",
        knowledge_type="your_knowledge_type",
    )
    assert check_lora_r_consistency(trained_model, config)["is_consistent"] is True
    published = workspace / "adapters/your_pkg/1.0.0/your_knowledge_type"
    assert check_lora_r_consistency(published, config)["is_consistent"] is True
    (run,) = list_runs(workspace / "runs")
    assert run.state().total_steps == 10, "16 rows, 8 a step, 5 epochs"

    result = check_config_consistency(config)
    assert result["is_valid"] is True
    assert result["issues"] == []
    assert config == before, "the caller's dict is left as it was"


def test_an_inconsistent_model_is_told_by_its_layers(tiny_model: Path, workspace: Path) -> None:
    config: dict[str, Any] = {"model_name": str(tiny_model), "r": 16, "alpha": 32, "target_modules": ["q_proj"]}
    result = check_lora_r_consistency(getEquipAdaptorModel(config), config | {"r": 8})
    assert result["is_consistent"] is False
    assert result["mismatched_layers"] == [f"model.layers.{block}.self_attn.q_proj" for block in (0, 1)]


def test_a_config_that_is_not_valid_says_so_in_words(workspace: Path) -> None:
    result = check_config_consistency({"model_name": "m", "r": "16", "dropout": 0.1})
    assert result["is_valid"] is False
    assert any("`r`" in issue for issue in result["issues"])
    assert any("`dropout`" in issue for issue in result["issues"])


def test_the_same_names_come_from_the_package_itself() -> None:
    import lora_backend

    assert lora_backend.getEquipAdaptorModel is getEquipAdaptorModel
    assert lora_backend.buildandTrainLoraModel is buildandTrainLoraModel
    assert lora_backend.check_lora_r_consistency is check_lora_r_consistency
    assert lora_backend.check_config_consistency is check_config_consistency
