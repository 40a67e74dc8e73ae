"""A word that a key does not take is named with those that it does, wherever it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from lora_backend.cli import main
from lora_backend.config.check import check_config
from lora_backend.config.options import KNOWN_ELSEWHERE, NEW_NAMES, Attention, Optimizer, Scheduler
from lora_backend.config.patch import DELETE, Patch
from lora_backend.config.schema import KEYS


def words_of(annotation: object) -> list[str]:
    """Every word in a key's type."""
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    return [word for part in get_args(annotation) for word in words_of(part)]


WORDED = {name: words for name, key in KEYS.items() if (words := words_of(key.annotation))}


def test_the_optimizers_are_those_of_transformers_that_train_here() -> None:
    from transformers.training_args import OptimizerNames

    known = {name.value for name in OptimizerNames}
    assert known == set(get_args(Optimizer)) | KNOWN_ELSEWHERE["optim"].keys() - NEW_NAMES.keys()
    assert not known & NEW_NAMES.keys()


def test_the_schedules_are_those_of_transformers_that_need_no_more() -> None:
    from transformers.trainer_utils import SchedulerType

    assert {name.value for name in SchedulerType} == set(get_args(Scheduler)) | KNOWN_ELSEWHERE[
        "lr_scheduler_type"
    ].keys()


ELSEWHERE = [(key, word) for key, words in KNOWN_ELSEWHERE.items() for word in words]


@pytest.mark.parametrize(("key", "word"), ELSEWHERE)
def test_a_word_that_transformers_knows_and_that_does_not_train_here_is_told_why(key: str, word: str) -> None:
    (found,) = check_config({"model_name": "m", key: word}).errors
    assert (found.code, found.key) == ("unusable_word", key)
    assert f"`{key}: {word}`" in found.message.text("en")
    assert found.fix == {key: NEW_NAMES.get(word, DELETE)}


@pytest.mark.parametrize(
    ("key", "word", "meant"),
    [
        ("optim", "AdamW_Torch", "adamw_torch"), ("optim", "adam_torch", "adamw_torch"), ("optim", "adamw-torch-fused", "adamw_torch_fused"),
        ("lr_scheduler_type", "cosin", "cosine"), ("precision", "BF16", "bf16"), ("attn_implementation", "flex-attention", "flex_attention"),
    ],
)  # fmt: skip
def test_a_misspelt_word_is_mended(key: str, word: str, meant: str) -> None:
    (found,) = check_config({"model_name": "m", key: word}).errors
    assert (found.code, found.fix) == ("wrong_type", Patch({key: meant}))


@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("optim", "muon"), ("optim", "adopt_adamw"), ("optim", "adamw_16bit"), ("optim", "adamw_torch_bit"), ("optim", "adamw_9bit"), ("attn_implementation", "xformers"),
        ("attn_implementation", "flash_attention_5"), ("attn_implementation", "flash_attention"), ("precision", "fp8"),
    ],
)  # fmt: skip
def test_a_word_that_means_something_else_is_not_mended(key: str, word: str) -> None:
    (found,) = check_config({"model_name": "m", key: word}).errors
    assert found.fix is None


def test_the_attention_kernels_are_those_of_transformers() -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    known = {name for name in ALL_ATTENTION_FUNCTIONS.valid_keys() if "|" not in name}
    assert set(get_args(Attention)) == (known | {"eager"}) - {"flightdeck_flat"}, "ours is no word of a config"


def test_keys_that_take_words_are_known_by_them() -> None:
    assert {"optim", "device_map", "attn_implementation", "precision", "bias", "eval_strategy"} <= WORDED.keys()


@pytest.mark.parametrize("key", WORDED)
def test_a_wrong_word_is_told_the_right_ones(key: str) -> None:
    result = check_config({"model_name": "m", key: "nonsense"})
    (finding,) = [finding for finding in result.errors if finding.key == key]
    said = finding.message.text("en")
    assert '"nonsense"' in said
    assert all(word in said for word in WORDED[key])
    assert "a text" not in said.rpartition(";")[2] or "mapping" in said, "a text it is already"


@pytest.mark.parametrize("word", ["kernels-community/flash-attn2", "a/b@v1", "a/b:fn", "sdpa", None])
def test_a_kernel_of_the_hub_may_be_named(word: str | None) -> None:
    assert check_config({"model_name": "m", "attn_implementation": word}).is_valid


@pytest.mark.parametrize("words", [["train", "CONFIG"], ["train", "CONFIG", "--set", "optim=adamw"], ["plan", "CONFIG"], ["plan", "CONFIG", "--set", "optim=adamw"]])  # fmt: skip
def test_every_command_names_them(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("model_name: m\n" + ("" if "--set" in words else "optim: adamw\n"))
    assert main([str(config) if word == "CONFIG" else word for word in words]) in (1, 2)
    said = "".join(capsys.readouterr())
    assert "`optim`" in said
    assert "adamw_torch_fused" in said
    assert "Traceback" not in said
