"""A package that a value needs and that is not here is told before the start: asked of transformers itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from lora_backend.cli import main
from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.options import Optimizer
from lora_backend.preflight import libraries
from lora_backend.preflight.libraries import BITSANDBYTES, FLASH, KERNELS, OPTIMIZERS, TORCHAO, missing_packages
from lora_backend.training.assembly import arguments_of

Make = Callable[..., dict[str, Any]]


def test_versions_are_those_that_transformers_takes() -> None:
    from transformers.utils import import_utils

    assert BITSANDBYTES.least == import_utils.BITSANDBYTES_MIN_VERSION
    assert TORCHAO.least == import_utils.TORCHAO_MIN_VERSION
    assert (KERNELS.least, KERNELS.below) == (import_utils.KERNELS_MIN_VERSION, import_utils.KERNELS_MAX_VERSION)


@pytest.mark.parametrize("word", get_args(Optimizer))
def test_an_optimizer_is_there_exactly_where_transformers_finds_it(word: str, config: Make, tmp_path: Path) -> None:
    from transformers import Trainer

    from lora_backend.config.schema import TrainingConfig

    values = config(optim=word)
    try:
        Trainer.get_optimizer_cls_and_kwargs(arguments_of(TrainingConfig(**values)))
        is_there = True
    except (ImportError, ValueError):
        is_there = False
    assert is_there is ("optim" not in missing_packages(values))


@pytest.mark.parametrize("word", OPTIMIZERS)
def test_without_its_package_an_optimizer_is_a_blocker(
    word: str, config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(libraries, "version_of", lambda _: None)
    text = tmp_path / "c.yaml"
    text.write_text(dump_yaml(config(optim=word)))
    assert main(["check", str(text), "--json"]) == 0, "the text may be meant for another machine"
    document = json.loads(capsys.readouterr().out)
    (blocker,) = document["blockers"]
    assert (blocker["code"], blocker["key"], blocker["fix"]) == ("library_missing", "optim", {"optim": None})
    assert OPTIMIZERS[word].name in blocker["message"]
    assert document["startable"] is False
    assert main(["train", str(text), "--json"]) == 1


@pytest.mark.parametrize(
    ("values", "installed", "missing"),
    [
        ({"attn_implementation": "flash_attention_2"}, {}, {"attn_implementation": "flash-attn>=2.3.3"}),
        ({"attn_implementation": "flash_attention_2"}, {"flash-attn": "2.3.2"}, {"attn_implementation": "flash-attn>=2.3.3"}),
        ({"attn_implementation": "flash_attention_2"}, {"flash-attn": "2.3.3.post1"}, {}),
        ({"attn_implementation": "flash_attention_2"}, {"flash-attn": "2.10"}, {}),
        ({"attn_implementation": "flash_attention_2"}, {"kernels": "0.18.2"}, {}),
        ({"attn_implementation": "flash_attention_3"}, {"flash-attn": "2.8.0"}, {"attn_implementation": "flash-attn-3"}),
        ({"attn_implementation": "kernels-community/flash-attn2"}, {}, {"attn_implementation": "kernels>=0.18.2,<0.19.0"}),
        ({"attn_implementation": "kernels-community/flash-attn2"}, {"kernels": "0.19.0"}, {"attn_implementation": "kernels>=0.18.2,<0.19.0"}),
        ({"attn_implementation": "sdpa", "optim": "adamw_torch"}, {}, {}),
        ({"quantization": "nf4", "optim": "adamw_8bit"}, {}, {"quantization": "bitsandbytes>=0.46.1", "optim": "bitsandbytes>=0.46.1"}),
        ({"quantization": ["nf4"], "optim": None, "attn_implementation": 3}, {}, {}),
    ],
)  # fmt: skip
def test_what_is_missing(values: dict[str, Any], installed: dict[str, str], missing: dict[str, str]) -> None:
    assert missing_packages(values, installed.get) == missing


def test_every_flash_attention_has_its_package() -> None:
    from transformers.modeling_flash_attention_utils import FLASH_ATTENTION_COMPATIBILITY_MATRIX

    assert FLASH.keys() == {f"flash_attention_{number}" for number in FLASH_ATTENTION_COMPATIBILITY_MATRIX}
