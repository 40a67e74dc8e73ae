"""`verify` as a script sees it: 0 good, 1 the answer is no, 2 it cannot be decided."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lora_backend.cli import main
from lora_backend.config.presets import PRESETS
from lora_backend.config.schema import KEYS, default_config
from lora_backend.verification.wrong_values import wrong_values

NAME = "base_model.model.model.layers.0.self_attn.q_proj"
OWN = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}


def adapter(folder: Path, own: Mapping[str, Any] = OWN, **tensors: np.ndarray[Any, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(own))
    halves = {"lora_A.weight": np.ones((4, 8), np.float32), "lora_B.weight": np.ones((8, 4), np.float32)}
    save_file(
        {f"{NAME}.{half}": tensor for half, tensor in (halves | tensors).items()}, folder / "adapter_model.safetensors"
    )
    return folder


@pytest.mark.parametrize(
    ("own", "asked", "code", "said"),
    [
        ({}, None, 0, "1 of 1 LoRA layer has the expected rank"),
        (
            {},
            "r: 4\nalpha: 64\ntarget_modules: [q_proj]\n",
            0,
            "wrong_scaling: A layer is not scaled as the config asks",
        ),
        ({}, "r: 4\nalpha: 8\ntarget_modules: [q_proj, o_proj]\n", 0, "unmatched_target: target_modules: o_proj"),
        ({"r": 8}, None, 1, "1 of 1 LoRA layer has the wrong rank"),
        ({"use_dora": True}, None, 1, "no magnitude vector"),
        ({"rank_pattern": {"q_proj": "4"}}, None, 2, 'rank_pattern: q_proj: "4"'),
        ({"peft_type": "IA3"}, None, 2, "not a LoRA"),
    ],
    ids=["good", "scaling", "unmatched", "rank", "dora", "wrong value", "not lora"],
)
def test_the_exit_code_follows_the_verdict(
    own: dict[str, Any], asked: str | None, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["verify", str(adapter(tmp_path / "a", OWN | own)), "--lang", "en"]
    if asked is not None:
        (tmp_path / "asked.yaml").write_text(f"model_name: m\n{asked}")
        arguments += ["--config", str(tmp_path / "asked.yaml")]
        # Without a provenance record the adapter's own config contradicts, which is another question's answer.
        own_says = {"alpha": 8, "target_modules": ["q_proj"]}
        differs = any(f"{key}: {value}".replace("'", "") not in asked for key, value in own_says.items())
        code = 1 if differs else code
    assert main(arguments) == code
    assert said in capsys.readouterr().out


def test_values_that_differ_are_told_of_both_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "asked.yaml").write_text("model_name: m\nr: 4\nalpha: 64\ntarget_modules: [q_proj]\n")
    assert main(["verify", str(adapter(tmp_path / "a")), "--config", str(tmp_path / "asked.yaml"), "--lang", "en"]) == 1
    assert "  alpha: 8 -> 64" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "code", "expected"),
    [
        ("model_name_or_path: m\nfinetuning_type: lora\nstage: sft\nlora_rank: 4\nlora_alpha: 8\nlora_target: q_proj\ncutoff_len: 512\n", 0, 4),
        ("base_model: m\nadapter: lora\nlora_r: 8\nlora_alpha: 8\nlora_target_modules: [q_proj]\nsequence_len: 512\nmicro_batch_size: 1\n", 1, 8),
        (json.dumps(OWN), 0, 4),
    ],
    ids=["LLaMA-Factory", "axolotl", "PEFT"],
)  # fmt: skip
def test_another_tools_config_is_read_under_our_names(
    asked: str, code: int, expected: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "asked.yaml").write_text(asked)
    main(["verify", str(adapter(tmp_path / "a")), "--config", str(tmp_path / "asked.yaml"), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (report["expected_r"], report["is_consistent"]) == (expected, code == 0)


@pytest.mark.parametrize("config", [default_config(), *(preset.values for preset in PRESETS.values())])
def test_no_value_of_ours_is_called_one_that_peft_cannot_use(config: dict[str, Any]) -> None:
    assert list(wrong_values({key: value for key, value in config.items() if key in KEYS})) == []
