"""Decoder blocks are found without a table of families."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, PreTrainedModel

from lora_backend.modeling.blocks import find_blocks
from tests.modeling.families import linear_endings, on_meta, vision_language

BLOCKS = {
    "llama": "model.layers",
    "gpt2": "transformer.h",
    "opt": "model.decoder.layers",
    "bloom": "transformer.h",
    "falcon": "transformer.h",
    "gpt_neox": "gpt_neox.layers",
    "gemma2": "model.layers",
    "mixtral": "model.layers",
    "qwen2_moe": "model.layers",
}
LINEAR = {
    "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "gpt2": {"c_attn", "c_proj", "c_fc"},
    "opt": {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "project_in", "project_out"},
    "bloom": {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
}


@pytest.mark.parametrize("family", BLOCKS)
def test_the_decoder_blocks_of_a_family_are_found(family: str) -> None:
    found = find_blocks(on_meta(family))
    assert found is not None
    assert (found[0], len(found[1])) == (BLOCKS[family], 3)


def test_a_vision_tower_as_deep_is_not_taken_for_the_decoder() -> None:
    found = find_blocks(vision_language())
    assert found is not None
    assert found[0] == "model.language_model.layers"


def test_a_model_without_a_list_of_modules_has_no_blocks() -> None:
    class Flat(PreTrainedModel):
        config_class = LlamaConfig

        def __init__(self) -> None:
            super().__init__(LlamaConfig())
            self.embedding = torch.nn.Embedding(4, 4)

        def get_input_embeddings(self) -> torch.nn.Module:
            return self.embedding

    assert find_blocks(Flat()) is None


@pytest.mark.parametrize("family", LINEAR)
def test_the_linear_layers_of_a_family_are_named_without_its_head(family: str) -> None:
    assert set(linear_endings(on_meta(family))) == LINEAR[family]
