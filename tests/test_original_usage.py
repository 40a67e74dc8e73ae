"""The original tool's documented usage, with the prefix of its imports changed and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.utils.data import DataLoader
from transformers import DataCollatorForSeq2Seq

from lora_backend.config_checker import check_config_consistency
from lora_backend.loraTrainUtils import buildandTrainLoraModel, check_lora_r_consistency, getEquipAdaptorModel
from lora_backend.modeling.load import load_tokenizer
from lora_backend.training.tokenize import tokenize_rows
from tests.tiny import chats, make_model


def test_build_check_train_and_check_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_WORKSPACE", str(tmp_path / "ws"))
    model_path = str(make_model(tmp_path / "model", blocks=4))
    config = {
        "model_name": model_path,
        "r": 16,
        "alpha": 32,
        "target_modules": ["q_proj", "v_proj"],
        "target_layers": [0, 1, 2, 3],
        "num_epochs": 5,
        "learning_rate": 1e-4,
        "batch_size": 4,
        "precision": "fp32",
        "check_r_consistency": True,
        "strict_r_check": False,
        "target_batch_size": 8,
    }
    lora_model = getEquipAdaptorModel(config)
    result = check_lora_r_consistency(lora_model, config)
    assert result["is_consistent"]
    assert result["mismatched_layers"] == []
    assert result["expected_r"] == 16
    assert len(result["actual_r_values"]) == 8

    tokenizer = load_tokenizer(model_path)
    rows = tokenize_rows(chats(), tokenizer, 64)
    dataloader = DataLoader(rows, batch_size=4, collate_fn=DataCollatorForSeq2Seq(tokenizer))  # type: ignore[arg-type,var-annotated]
    lora_model = buildandTrainLoraModel(
        config=config,
        dataloader=dataloader,
        precision=config["precision"],  # type: ignore[arg-type]
        pkg="your_pkg",
        version="1.0.0",
        knowledge_type="your_knowledge_type",
    )
    assert (tmp_path / "ws/adapters/your_pkg/1.0.0/your_knowledge_type/adapter_config.json").is_file()

    result = check_config_consistency(config)
    assert result["is_valid"], result["issues"]
