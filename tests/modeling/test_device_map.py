"""The balanced device map as the original's users call it, on simulated GPUs and for real on the CPU."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import check_device_map
from transformers import AutoConfig, AutoModelForCausalLM

from lora_backend import apply_balanced_device_map, create_balanced_device_map
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ConfigError, DeviceError, ModelError, TooLittleMemoryError
from lora_backend.hardware.inventory import read_host
from lora_backend.i18n import use_language
from lora_backend.installation import this_installation
from lora_backend.modeling import device_map as module
from lora_backend.modeling.device_map import placement
from lora_backend.modeling.load import load_model
from lora_backend.planning.targets import GIB, Target, of_words
from lora_backend.preflight.plan_question import config_to_plan

SMALL = {
    "model_type": "llama", "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
    "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048,
}  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> str:
    """The config.json of a 1.1B Llama: 2.05 GiB of weights in bf16."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SMALL))
    return str(path)


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever machine this is, `gpus=None` sees none here."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def blocks_on(placed: dict[str, int | str], device: int | str) -> list[int]:
    return [int(name.rsplit(".", 1)[1]) for name, where in placed.items() if ".layers." in name and where == device]


def test_every_parameter_is_covered_once_and_accelerate_accepts_the_map(small: str) -> None:
    placed = create_balanced_device_map(small, gpus="24,12,8")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**SMALL))
    check_device_map(model, placed)
    for name, _ in model.named_parameters():
        assert len([key for key in placed if name == key or name.startswith(f"{key}.")]) == 1


def test_equal_blocks_follow_the_free_memory_of_unequal_gpus(small: str) -> None:
    wanted = {"gradient_checkpointing": True, "loss_type": "chunked_nll", "batch_size": 1}
    # So small that all three are needed; what the context takes of each is not there for blocks.
    gpus = [Target(index, f"GPU {index}", round(size * GIB)) for index, size in enumerate((2.6, 1.6, 1.1))]
    placed = create_balanced_device_map(small, gpus=gpus, config=wanted, min_memory_gb=1.0)
    counts = [len(blocks_on(placed, device)) for device in range(3)]
    assert sum(counts) == 22
    assert counts[0] > counts[1] > counts[2] > 0


def test_force_balance_gives_every_gpu_a_block_those_with_little_memory_too(small: str) -> None:
    placed = create_balanced_device_map(small, force_balance=True, gpus="24,24,1.5")
    assert all(blocks_on(placed, device) for device in range(3))
    without = create_balanced_device_map(small, gpus="24,24,1.5")
    assert not blocks_on(without, 2)


def test_no_gpu_with_enough_memory_is_refused_in_the_words_that_users_know(small: str) -> None:
    with pytest.raises(TooLittleMemoryError, match=r"❌ No GPU has enough memory \(at least 2 GB needed\)"):
        create_balanced_device_map(small, gpus="1.5,1")
    with pytest.raises(TooLittleMemoryError), use_language("zh"):
        create_balanced_device_map(small)
    with use_language("zh"):
        try:
            create_balanced_device_map(small, min_memory_gb=3, gpus="1.5")
        except TooLittleMemoryError as error:
            said = str(error)
    assert "❌ 没有GPU有足够的内存（需要至少3GB）" in said
    assert all(key in said for key in ("min_memory_gb", "force_balance"))


def test_gpus_that_are_given_in_any_order_get_the_same_map(small: str) -> None:
    wanted = {"batch_size": 4, "max_length": 2048, "gradient_checkpointing": True}
    gpus = of_words("6,24")
    one, other, without = (
        create_balanced_device_map(small, gpus=each, config=wanted) for each in (gpus, gpus[::-1], gpus[1:])
    )
    assert one == other
    assert set(without.values()) == {1}


def test_weights_that_do_not_fit_raise_with_the_shortage_and_training_bytes_warn(
    small: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DeviceError, match=r"weights do not fit: \d+\.\d GiB are missing"):
        create_balanced_device_map(small, gpus="2")
    with caplog.at_level(logging.WARNING):
        create_balanced_device_map(small, gpus="4", config={"batch_size": 64})
    assert "training may need more than is free" in caplog.text


def test_without_exclude_cpu_what_fits_on_no_gpu_lives_in_host_memory(
    small: str, caplog: pytest.LogCaptureFixture
) -> None:
    placed = create_balanced_device_map(small, exclude_cpu=False, gpus="2", config={"batch_size": 64})
    assert blocks_on(placed, 0)
    assert blocks_on(placed, "cpu")
    assert max(blocks_on(placed, 0)) < min(blocks_on(placed, "cpu"))
    assert "not trained" in caplog.text
    assert create_balanced_device_map(small, exclude_cpu=False) == {"": "cpu"}


@pytest.mark.parametrize("exclude_cpu", [True, False])
def test_weights_that_do_not_fit_are_refused_with_remedies_that_are_still_open(
    exclude_cpu: bool, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = replace(read_host(Path.cwd()), memory_total_bytes=GIB // 4, memory_available_bytes=GIB // 4)
    monkeypatch.setattr(module, "read_host", lambda _: host)
    with pytest.raises(DeviceError, match=r"weights do not fit.* \d+\.\d GiB are missing.*nf4") as raised:
        create_balanced_device_map(small, exclude_cpu=exclude_cpu, gpus="1", min_memory_gb=0.5)
    assert ("exclude_cpu" in str(raised.value)) is exclude_cpu


def test_where_blocks_cannot_be_found_it_is_the_auto_map_and_says_why(
    small: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nothing_found(*_: Any) -> None:
        raise ModelError("The model's blocks cannot be found, so it cannot be planned layer by layer.")

    monkeypatch.setattr(module, "tracer", lambda _: nothing_found)
    monkeypatch.setenv("FLIGHTDECK_HOME", str(Path(small).parent / "empty"))
    with use_language("zh"):
        placed = create_balanced_device_map(small, gpus="24,12")
    assert "⚠️  无法自动检测模型层数，使用默认分配策略" in caplog.text
    with torch.device("meta"):
        check_device_map(AutoModelForCausalLM.from_config(AutoConfig.for_model(**SMALL)), placed)


def test_a_family_that_is_no_causal_model_is_refused_and_no_map_is_promised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ModelError, match="only causal language models"):
        create_balanced_device_map(str(tmp_path), gpus="24,24")
    assert "auto" not in caplog.text


def test_each_call_logs_free_planned_and_blocks_of_every_gpu(small: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        create_balanced_device_map(small, gpus="24,12")
    table = next(record.getMessage() for record in caplog.records if "balanced device map:\n" in record.getMessage())
    assert "0 GPU 24 GiB" in table
    assert "1 GPU 12 GiB" in table


@pytest.mark.parametrize(("words", "said"), [("24;12", "24;12"), ("0", "0"), ("3xNoSuchCard", "NoSuchCard")])
def test_words_that_name_no_gpus_are_one_sentence(small: str, words: str, said: str) -> None:
    with pytest.raises(DeviceError, match=said):
        create_balanced_device_map(small, gpus=words)


def test_apply_loads_on_the_cpu_and_returns_the_map_that_the_model_has(tiny_model: Path) -> None:
    model, tokenizer, actual = apply_balanced_device_map(str(tiny_model), {"exclude_cpu": False, "precision": "fp32"})
    assert actual == {"": "cpu"}
    assert next(model.parameters()).dtype == torch.float32
    assert tokenizer.pad_token_id is not None


def test_apply_loads_as_if_balancing_were_off_where_no_gpu_has_enough(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, _, actual = apply_balanced_device_map(str(tiny_model), {})
    assert actual == {"": "cpu"}
    assert "❌ No GPU has enough memory" in caplog.text
    with pytest.raises(TooLittleMemoryError):
        apply_balanced_device_map(str(tiny_model), {"force_balance": True})


def see(monkeypatch: pytest.MonkeyPatch, gpus: str) -> None:
    monkeypatch.setattr(module, "machine_targets", lambda _: (of_words(gpus), None, None))


@pytest.mark.parametrize(
    ("gpus", "asked", "devices"),
    [
        ("24,1", {}, {0}),
        ("24,1", {"force_balance": True}, {0, 1}),
        ("24,1", {"min_memory_gb": 30}, None),
        ("24,1", {"min_memory_gb": 30, "exclude_cpu": False}, {"cpu"}),
        ("3", {"precision": "bf16"}, {0}),
    ],
    ids=str,
)
def test_apply_plans_by_every_key_that_it_takes(
    gpus: str,
    asked: dict[str, Any],
    devices: set[int | str] | None,
    small: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    planned: list[Any] = []

    def load(_: TrainingConfig, placed: Any) -> torch.nn.Module:
        planned.append(placed)
        return torch.nn.Linear(1, 1)

    see(monkeypatch, gpus)
    monkeypatch.setattr(module, "load_model", load)
    monkeypatch.setattr(module, "load_tokenizer", lambda _: None)
    apply_balanced_device_map(small, asked)
    (placed,) = planned
    assert (placed and set(placed.values())) == devices
    assert ("❌ No GPU has enough memory (at least 30 GB needed)" in caplog.text) is (devices is None)


def test_apply_plans_in_the_precision_that_is_loaded(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, "3")
    with pytest.raises(DeviceError, match="weights do not fit"):
        apply_balanced_device_map(small, {"precision": "fp32"})


@pytest.mark.parametrize(
    ("gpus", "loaded", "differs"),
    [("24", {"": 0}, False), ("24", {"": 1}, True), ("24,24", {"": 0}, True)],
    ids=["same in other words", "another GPU", "one GPU for two"],
)
def test_a_model_that_is_not_where_it_was_planned_is_warned_of_and_the_real_map_returned(
    gpus: str,
    loaded: dict[str, int],
    differs: bool,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def load(config: TrainingConfig, _: Any) -> Any:
        model = load_model(config, "cpu")
        model.hf_device_map = loaded
        return model

    see(monkeypatch, gpus)
    monkeypatch.setattr(module, "load_model", load)
    _, _, actual = apply_balanced_device_map(str(tiny_model), {})
    assert actual == loaded
    assert ("differs from the planned one" in caplog.text) is differs


@pytest.mark.parametrize(("key", "value"), [("forcebalance", True), ("batch_size", 4)])
def test_apply_names_what_it_does_not_take(key: str, value: Any, tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=f"precision, not {key}"):
        apply_balanced_device_map(str(tiny_model), {key: value})


def test_a_device_map_of_the_config_wins_and_is_never_planned_anew(tiny_model: Path) -> None:
    given = {"model.embed_tokens": "cpu", "model": "cpu", "lm_head": "cpu"}
    config = config_to_plan({"model_name": str(tiny_model), "device_map": given, "use_balanced_device_map": True})
    assert placement(config, this_installation()) == (given, None)
