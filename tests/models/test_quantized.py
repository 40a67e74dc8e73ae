"""Every way of quantizing a checkpoint that transformers knows has a treatment, and the right one."""

from __future__ import annotations

import importlib.util

import pytest
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

from lora_backend.errors import ModelError
from lora_backend.models.quantized import AS_IT_IS, EXPANDED, Quantized, quantized_as, refuse_quantized
from lora_backend.preflight.libraries import CHECKPOINTS, missing_for

METHODS = {name.removesuffix("_4bit").removesuffix("_8bit") for name in AUTO_QUANTIZER_MAPPING}


def test_every_method_named_is_one_that_transformers_knows() -> None:
    assert {*AS_IT_IS, *EXPANDED} <= METHODS
    assert set(CHECKPOINTS) <= METHODS
    assert set(AS_IT_IS) <= set(CHECKPOINTS), "each has its package"


@pytest.mark.parametrize("method", AS_IT_IS)
def test_what_is_trained_as_it_is_has_a_lora_layer_in_peft(method: str) -> None:
    module = {"bitsandbytes": "bnb"}.get(method, method)
    assert importlib.util.find_spec(f"peft.tuners.lora.{module}")


@pytest.mark.parametrize("method", sorted(METHODS - {*AS_IT_IS, *EXPANDED}))
def test_all_others_are_refused(method: str) -> None:
    with pytest.raises(ModelError, match=rf"quantized \({method}\), and nothing trains on weights of that kind"):
        refuse_quantized({"quantization_config": {"quant_method": method}}, None)


@pytest.mark.parametrize("said", [None, {}, []])
def test_a_whole_checkpoint_is_none(said: object) -> None:
    assert quantized_as({"quantization_config": said}) is None


@pytest.mark.parametrize("said", ["nf4", 4, [1]])
def test_a_checkpoint_that_says_nothing_that_can_be_read_is_not_trained(said: object) -> None:
    """transformers stumbles over it at loading."""
    assert quantized_as({"quantization_config": said}) == Quantized("?")
    with pytest.raises(ModelError, match=r"quantized \(\?\), and nothing trains"):
        refuse_quantized({"quantization_config": said}, None)


def test_an_old_file_of_bitsandbytes_names_no_method() -> None:
    quantized = quantized_as({"quantization_config": {"load_in_4bit": True}})
    assert quantized is not None
    assert (quantized.method, quantized.treatment) == ("bitsandbytes", "as_it_is")


def test_a_file_that_names_no_method_is_refused() -> None:
    with pytest.raises(ModelError, match="Name the folder with the full weights"):
        refuse_quantized({"quantization_config": {"bits": 4}}, None)


def test_all_packages_of_a_method_must_be_there() -> None:
    quantized = quantized_as({"quantization_config": {"quant_method": "gptq"}})
    assert missing_for(quantized, {"gptqmodel": "7.1", "optimum": "2.0"}.get) == ()
    assert missing_for(quantized, {"gptqmodel": "6.0", "optimum": "2.0"}.get) == ("gptqmodel>=7.0.0",)
    assert missing_for(quantized, lambda _: None) == ("gptqmodel>=7.0.0", "optimum>=1.24.0")
    assert missing_for(None) == ()
