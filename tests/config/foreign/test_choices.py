"""Names of optimizers and attention kernels that do not exist here are told, not taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_backend.cli import main
from lora_backend.config.accepted_values import takes
from lora_backend.config.foreign.import_file import import_text
from lora_backend.config.foreign.tools import TOOLS
from lora_backend.config.foreign.word_rules import HUB_KERNEL
from lora_backend.config.options import NEW_NAMES
from lora_backend.preflight import libraries
from tests.config.foreign.examples import row

HEADS = {
    "axolotl": ("base_model: m\nadapter: lora\n", "optimizer", "attn_implementation"),
    "llamafactory": ("model_name_or_path: m\nfinetuning_type: lora\n", "optim", "flash_attn"),
    "trl": ("model_name_or_path: m\nuse_peft: true\n", "optim", "attn_implementation"),
    "training_arguments": ("model_name_or_path: m\nnum_train_epochs: 1\n", "optim", "attn_implementation"),
    "unsloth": ("model: m\nlora:\n  lora_r: 8\ntraining:\n  max_seq_length: 64\n", "training.optim", None),
    "llamafactory_v1": ("model: m\nmodel_class: llm\n", None, "flash_attn"),
}


@pytest.mark.parametrize("tool", HEADS)
def test_a_name_that_does_not_exist_here_is_not_taken(tool: str) -> None:
    head, optimizer, attention = HEADS[tool]
    for key, ours, names in (
        (optimizer, "optim", ("muon", "adopt_adamw", "galore_adamw", "nonsense", "[a]")),
        (attention, "attn_implementation", ("xformers", "sage", "nonsense")),
    ):
        for name in names if key else ():
            result = import_text(f"{head}{'  ' if tool == 'unsloth' else ''}{str(key).rpartition('.')[2]}: {name}\n")
            found = row(result, str(key))
            assert (result.tool, found.outcome) == (tool, "not_supported")
            assert name.strip("[]") in found.message.text("en")
            assert ours not in result.values
            assert result.is_valid


def test_an_older_name_becomes_the_one_of_today() -> None:
    for old, new in NEW_NAMES.items():
        assert not takes("optim", old)
        result = import_text(f"{HEADS['axolotl'][0]}optimizer: {old}\n")
        assert row(result, "optimizer").outcome == "translated"
        assert result.values["optim"] == new


def test_a_kernel_of_the_hub_says_what_it_needs() -> None:
    result = import_text(f"{HEADS['axolotl'][0]}attn_implementation: kernels-community/flash-attn2\n")
    assert row(result, "attn_implementation").message.template == HUB_KERNEL


def test_every_tool_that_names_optimizers_or_kernels_is_held_to_it() -> None:
    named = {tool.id for tool in TOOLS.values() if any("optim" in rule.targets for rule in tool.rules.values())}
    assert named - {"original"} <= HEADS.keys()


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ("attn_implementation: kernels-community/flash-attn2", "attn_implementation"),
        ("optimizer: adamw_torch_4bit", "optim"),
        ("flash_attention: true", "attn_implementation"),
    ],
)
@pytest.mark.parametrize("is_here", [True, False])
def test_a_package_that_is_not_here_is_said_by_the_command(
    lines: str,
    key: str,
    is_here: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    versions = {"kernels": "0.18.2", "torchao": "0.15.0", "flash-attn": "2.8.0"} if is_here else {}
    monkeypatch.setattr(libraries, "version_of", versions.get)
    (tmp_path / "axolotl.yaml").write_text(f"{HEADS['axolotl'][0]}{lines}\n", "utf-8")
    assert main(["import", str(tmp_path / "axolotl.yaml"), "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [item["key"] for item in findings if item["code"] == "library_missing"] == ([] if is_here else [key])
