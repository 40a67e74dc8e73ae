"""Loading takes this machine's files, in the format and on the devices that are asked for, and runs no code of theirs."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import DeviceError, ModelError
from lora_backend.hardware.inventory import read_host
from lora_backend.modeling.devices import refuse_untrainable, resolve_precision
from lora_backend.modeling.load import load_model, load_tokenizer
from lora_backend.planning.planner import precision_on
from lora_backend.planning.targets import of_host
from tests.tiny import make_model

Make = Callable[..., dict[str, Any]]


def load(config: Make, **changes: Any) -> Any:
    return load_model(TrainingConfig(**config(**changes)))


@pytest.mark.parametrize(
    ("word", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_weights_are_loaded_in_the_precision_asked_for(word: str, dtype: torch.dtype, config: Make) -> None:
    assert {parameter.dtype for parameter in load(config, precision=word).parameters()} == {dtype}


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_without_a_gpu_auto_is_a_format_that_trains_and_fp16_is_none() -> None:
    assert resolve_precision("auto") in ("bf16", "fp32")
    host = of_host(read_host(Path.cwd()))
    assert precision_on("auto", [host]) == resolve_precision("auto"), "planned as it is trained"
    for word in ("auto", "fp32", "bf16"):
        refuse_untrainable(resolve_precision(word))
    with pytest.raises(DeviceError, match="precision: fp32"):
        refuse_untrainable("fp16")


CPU_MAP = {"model.embed_tokens": "cpu", "model.layers": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
@pytest.mark.parametrize("device_map", [..., "cpu", "auto", "balanced", "sequential", CPU_MAP | {"lm_head": "cpu"}])
def test_every_kind_of_device_map_loads_a_model_that_computes(device_map: Any, config: Make) -> None:
    model = load(config, device_map=device_map)
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert torch.isfinite(model(torch.tensor([[4, 5, 6]])).logits).all()


def test_a_map_places_each_module_where_it_says(config: Make) -> None:
    model = load(config, device_map=CPU_MAP | {"lm_head": "disk"})
    assert model.hf_device_map["lm_head"] == "disk"
    assert model.lm_head.weight.is_meta
    assert model.model.embed_tokens.weight.device.type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_a_map_to_a_gpu_that_is_not_there_is_one_sentence(config: Make) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(config, device_map={"": 0})


def test_what_was_put_where_is_logged(config: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lora_backend"):
        load(config)
    assert "2 blocks, 0 to 1" in caplog.text


def test_a_missing_folder_is_named(config: Make) -> None:
    with pytest.raises(ModelError, match="/no/such/folder"):
        load(config, model_name="/no/such/folder")


def test_a_folder_without_a_model_is_named(config: Make, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        load(config, model_name=str(tmp_path))


def test_a_hub_id_that_is_not_cached_comes_with_the_command_that_downloads_it(config: Make) -> None:
    with pytest.raises(ModelError, match="flightdeck download someone/some-model"):
        load(config, model_name="someone/some-model")


@pytest.mark.parametrize("name", ["config.json", ""])
def test_a_config_without_weights_is_no_model_to_load(
    name: str, config: Make, tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copy(tiny_model / "config.json", tmp_path / "config.json")
    with pytest.raises(ModelError):
        load(config, model_name=str(tmp_path / name))


def test_a_folder_without_a_tokenizer_says_which_files_are_wanted(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", tokenizer=False)
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load_tokenizer(str(folder))


@pytest.mark.parametrize("content", ["{oops", "{}", '{"model": {"type": "Unheard"}}'])
def test_a_damaged_tokenizer_is_one_sentence(content: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match="tokenizer"):
        load_tokenizer(str(folder))


def test_a_tokenizer_without_a_pad_token_gets_one(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("pad_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2


def test_weights_that_are_cut_off_are_one_sentence(config: Make, tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    os.truncate(folder / "model.safetensors", 2_000)
    with pytest.raises(ModelError):
        load(config, model_name=str(folder))


def test_pickled_weights_are_refused_and_not_opened(config: Make, tiny_model: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "ran").touch, ())

    folder = shutil.copytree(tiny_model, tmp_path / "m")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError, match="safetensors"):
        load(config, model_name=str(folder))
    assert not (tmp_path / "ran").exists()


def test_code_that_comes_with_a_model_is_not_run(config: Make, tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"model_type": "unheard", "auto_map": {"AutoConfig": "its.Config", "AutoModelForCausalLM": "its.Model"}}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "its.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelError):
        load(config, model_name=str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kernel", ["someone/kernel", "flash_attention_2"])
def test_an_attention_kernel_that_is_not_there_is_one_sentence(kernel: str, config: Make) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(config, attn_implementation=kernel)


def test_a_sharded_model_loads(config: Make, tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 3}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes))
    model.save_pretrained(tmp_path / "m", max_shard_size="20KB")
    assert len(list((tmp_path / "m").glob("*.safetensors"))) > 1
    loaded = load(config, model_name=str(tmp_path / "m"))
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
