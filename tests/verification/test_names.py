"""Names, patterns and targets: what PEFT matches, we match; PEFT's own functions are the judge."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key

from lora_backend.verification.coverage import targets_of
from lora_backend.verification.ranks import rank_rule
from lora_backend.verification.shapes import block_of, canonical_name

NAME = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    "written",
    [
        NAME, f"base_model.model.{NAME}", f"module.base_model.model.{NAME}", f"_orig_mod.base_model.model.{NAME}", f"module._orig_mod.base_model.model.{NAME}",
        "base_model.model.model.layers.0._fsdp_wrapped_module.self_attn.q_proj", "_fsdp_wrapped_module.base_model.model.model.layers.0._checkpoint_wrapped_module.self_attn.q_proj",
        f"base_model.model.{NAME}.base_layer", "base_model.model.model._orig_mod.layers.0.self_attn.q_proj",
        f"base_model.model.{NAME}._orig_mod", f"{NAME}._fsdp_wrapped_module._checkpoint_wrapped_module", f"{NAME}._orig_mod.base_layer", f"{NAME}.base_layer._orig_mod",
    ],
)  # fmt: skip
def test_wrappers_leave_no_mark_in_a_name(written: str) -> None:
    assert canonical_name(written) == NAME


@pytest.mark.parametrize(
    "name", ["model.my_module.q", "submodule.q_proj", "model.layers.0.base_layernorm", "module_list.0.q"]
)
def test_a_name_that_only_looks_like_a_wrapper_stays(name: str) -> None:
    assert canonical_name(name) == name


@pytest.mark.parametrize(
    ("name", "block"),
    [
        (NAME, 0), ("model.layers.12.mlp.experts.3.up", 12), ("transformer.h.7.attn", 7), ("lm_head", None), ("q8_proj", None), ("0", 0), ("conv1.weight", None),
    ],
)  # fmt: skip
def test_the_block_is_the_first_part_that_is_a_number(name: str, block: int | None) -> None:
    assert block_of(name) == block


parts = st.sampled_from(
    ["model", "layers", "0", "1", "11", "self_attn", "mlp", "q_proj", "v_proj", "proj", "lm_head", "head"]
)
names = st.lists(parts, min_size=1, max_size=5).map(".".join)
patterns = st.one_of(
    names, parts, st.sampled_from(["q_proj|v_proj", r".*\.0\..*", "layers.1", "^model.*", "^lm_head", ".*proj", "q.proj", r"\d+", "", "self_attn.q_proj$", "(", "[a"])
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(patterns.filter(lambda p: p not in ("(", "[a")), max_size=4, unique=True), names)
def test_the_pattern_that_counts_is_the_one_that_peft_takes(keys: list[str], name: str) -> None:
    ours = rank_rule({"rank_pattern": dict.fromkeys(keys, 1)}).rank_pattern_for(name)
    theirs = get_pattern_key(keys, name)
    assert theirs == (name if ours is None else ours)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(patterns, st.integers(1, 64), max_size=4), names)
def test_a_rank_is_the_first_patterns_or_r(pattern: dict[str, int], name: str) -> None:
    rule = rank_rule({"r": 99, "rank_pattern": pattern})
    first = rule.rank_pattern_for(name)
    assert rule.for_layer(name) == (99 if first is None else pattern[first])


@settings(max_examples=400, deadline=None)
@given(
    name=names,
    modules=st.lists(names | parts, min_size=1, max_size=3, unique=True)
    | st.sampled_from([r".*\.0\..*q_proj", "q_proj", ".*", r"model\..*"]),
    layers=st.none() | st.lists(st.integers(0, 11), min_size=1, max_size=3, unique=True),
    layers_pattern=st.sampled_from([None, "layers", ["layers"], ["h", "layers"]]),
    exclude=st.none() | st.lists(parts, min_size=1, max_size=2, unique=True) | st.sampled_from([".*v_proj", "lm_head"]),
    saved=st.none() | st.lists(st.sampled_from(["lm_head", "head", "mlp"]), min_size=1, max_size=2, unique=True),
)
def test_a_module_is_a_target_when_it_is_one_for_peft(
    name: str, modules: Any, layers: Any, layers_pattern: Any, exclude: Any, saved: Any
) -> None:
    if isinstance(modules, str):
        layers = layers_pattern = None  # PEFT refuses them beside an expression
    config: dict[str, Any] = {
        "target_modules": modules,
        "layers_to_transform": layers,
        "layers_pattern": layers_pattern if layers else None,
        "exclude_modules": exclude,
        "modules_to_save": saved,
    }
    theirs = check_target_module_exists(LoraConfig(r=4, **config), name)
    assert targets_of(config).matches(name) == bool(theirs), theirs
