"""The module tree of a model, as plain data."""

import json

import pytest

from lora_backend.errors import ModelError
from lora_backend.modeling.tree import module_tree
from lora_backend.models.tree import ModuleTree
from lora_backend.preflight.trees import known_tree, tree_of
from lora_backend.settings import load_settings
from tests.modeling.families import LLAMA, SMALL

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
    with pytest.raises(ModelError, match="No causal language model"):
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

    settings = load_settings()
    assert known_tree(FACTS, settings) is None
    first = tree_of(FACTS, build, settings)
    assert tree_of(dict(FACTS), build, settings) == known_tree(FACTS, settings) == first
    assert len(asked) == 1
