"""The module tree of a model, as plain data."""

import json

import pytest

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.installation import this_installation
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.live_tree import tree_of_model
from lora_backend.modeling.meta import module_tree
from lora_backend.models.tree import ModuleTree
from lora_backend.preflight.trees import known_tree, tree_of
from tests.modeling.families import CONFIGS, HYBRIDS, LLAMA, MIXTURES, SMALL, gemma3, on_meta, vision_language

FACTS = json.loads(LLAMA.to_json_string(use_diff=False))


def test_a_tree_says_what_is_where_and_comes_back_from_json():
    tree = module_tree(FACTS)
    assert (tree.embedding, tree.head, tree.blocks) == ("model.embed_tokens", "lm_head", "model.layers")
    assert tree.modules["model.layers.0.self_attn.q_proj"] == "Linear"
    assert tree.parameters["model.embed_tokens.weight"] == (SMALL["vocab_size"], SMALL["hidden_size"])
    assert "lm_head" not in tree.linear
    assert "model.layers.0.mlp.down_proj" in tree.linear
    assert ModuleTree.from_json(json.loads(json.dumps(tree.to_json()))) == tree


def test_a_config_of_no_causal_model_is_refused_in_a_sentence():
    with pytest.raises(ModelError, match=r"encoder-decoder \(t5\)"):
        module_tree({"model_type": "t5", "d_model": 16})


def test_tied_parameters_are_named_once():
    tree = module_tree({**FACTS, "tie_word_embeddings": True})
    assert tree.tied == {"lm_head.weight": "model.embed_tokens.weight"}
    assert "lm_head.weight" not in tree.parameters


def test_a_tree_is_built_once_and_kept_by_content(tmp_path, monkeypatch):
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path))
    asked = []

    def build(facts):
        asked.append(facts)
        return module_tree(facts)

    installation = this_installation()
    assert known_tree(FACTS, installation) is None
    first = tree_of(FACTS, build, installation)
    assert tree_of(dict(FACTS), build, installation) == known_tree(FACTS, installation) == first
    assert len(asked) == 1


@pytest.mark.parametrize("family", MIXTURES)
def test_experts_are_named_with_what_the_files_call_their_parts(family):
    tree = tree_of_model(on_meta(family))
    parts = {name.rpartition(".")[2]: found for name, found in tree.experts.items()}
    by_files = {
        "mixtral": {"gate_up_proj": ("w1", "w3"), "down_proj": ("w2",)},
        "gpt_oss": {"gate_up_proj": (), "down_proj": ()},
        "granitemoe": {"gate_up_proj": ("input_linear",), "down_proj": ("output_linear",)},
    }
    assert parts == by_files.get(family, {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)})
    assert {name.rpartition(".")[2] for name in tree.routers} <= {"gate", "router"}
    assert len(tree.routers) == len(tree.experts) / 2
    assert tree.num_experts == 2 * len(tree.routers)
    assert bool(tree.all_linear_parameters) is (family not in ("qwen2_moe", "gpt_oss", "granitemoe"))


def test_what_is_beside_the_text_model_is_a_tower():
    for model in (gemma3(), vision_language()):
        tree = tree_of_model(model)
        assert tree.towers == ("model.vision_tower", "model.multi_modal_projector")
        assert not any("vision" in name or "projector" in name for name in tree.all_linear)
        assert tree.tower_of("model.vision_tower.encoder.layers.0.self_attn.q_proj") == "model.vision_tower"


@pytest.mark.parametrize("family", CONFIGS)
def test_a_model_of_text_has_no_tower(family):
    assert tree_of_model(on_meta(family)).towers == ()


@pytest.mark.parametrize("family", HYBRIDS)
def test_what_peft_refuses_to_adapt_is_named(family):
    refused = tree_of_model(on_meta(family)).refused
    assert {name.rpartition(".")[2] for name in refused} == {"out_proj", "conv1d"}


@pytest.mark.parametrize("family", ["llama", "mixtral", "gpt2"])
def test_a_model_with_an_adapter_has_the_tree_that_it_had_without(family):
    model = on_meta(family)
    before = tree_of_model(model)
    config = TrainingConfig(model_name="m", r=4, modules_to_save=[(before.head or "").rpartition(".")[2]])
    assert tree_of_model(attach_adapter(model, config)) == before
