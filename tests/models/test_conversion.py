"""Which models transformers renames in memory: read from its text, held against what it really has."""

from __future__ import annotations

from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from lora_backend.models.conversion import converted, converts_names


def test_the_table_that_is_read_is_the_one_that_transformers_uses() -> None:
    names = converted() or frozenset()
    known = {name for name in names if get_checkpoint_conversion_mapping(name) is not None}
    assert {"mixtral", "qwen3_moe", "LlavaModel", "GPTNeoXForCausalLM"} <= known
    # What is left are stems of classes, which transformers has under the class's name.
    assert all(any(name.lower().startswith(stem) for name in known) for stem in names - known)
    from transformers import conversion_mapping

    assert set(conversion_mapping._build_checkpoint_conversion_mapping()) - {"legacy"} <= names


def test_a_model_is_told_by_its_type_its_class_and_its_parts() -> None:
    assert not converts_names({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
    assert converts_names({"model_type": "mixtral"})
    assert converts_names({"model_type": "gpt_neox"})
    assert converts_names({"model_type": "new", "architectures": ["GPTNeoXForCausalLM"]})
    assert converts_names({"model_type": "new", "thinker_config": {"text_config": {"model_type": "qwen3_next"}}})
    assert converts_names({"model_type": "new", "text_config": {"hidden_size": 8}})
    assert converts_names({"model_type": "new", "audio_config": {"model_type": "new_audio"}})
    assert not converts_names({"model_type": "llama", "rope_scaling": {"rope_type": "yarn"}, "quantization_config": {}})
    assert not converts_names({"model_type": None, "architectures": 3, "text_config": []})
