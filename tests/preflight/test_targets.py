"""A config is held against its model's modules before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from peft import LoraConfig
from peft.tuners.tuners_utils import _check_lora_target_modules_mamba
from transformers import CONFIG_MAPPING

from lora_backend.config.findings import Finding
from lora_backend.config.presets import PRESETS
from lora_backend.config.rules import ConfigView, Facts
from lora_backend.config.rules.model_facts import CHECKS as OF_MODEL
from lora_backend.config.rules.target_facts import CHECKS
from lora_backend.config.schema import TrainingConfig
from lora_backend.installation import this_installation
from lora_backend.modeling.live_tree import tree_of_model
from lora_backend.modeling.meta import module_tree
from lora_backend.modeling.profiling import tracer
from lora_backend.models.catalogue import find_in_catalogue
from lora_backend.models.refused_targets import is_refused
from lora_backend.preflight.attachable import held_against_tree
from lora_backend.preflight.startable import CannotStartError, judge, refuse_by_new_tree, startable
from lora_backend.preflight.trees import known_tree
from lora_backend.verification.rank_report import expected_ranks
from tests.modeling.families import HYBRIDS, LLAMA, MIXTURES, gemma3, on_meta
from tests.resolving import from_here
from tests.tiny import make_model, prompts, write_rows


def said(model: Any, **values: Any) -> dict[str, Finding]:
    view, facts = ConfigView({"model_name": "m", **values}), Facts(tree=tree_of_model(model))
    return {finding.code: finding for rule in (*OF_MODEL, *CHECKS) for finding in rule(view, facts)}


ADAPTED = {
    "mixtral": "all 6 experts (w1, w3, w2), 3 routers and 12 other linear layers",
    "deepseek_v3": "all 4 experts (gate_proj, up_proj, down_proj), 2 routers, 6 layers of shared experts and 18 other",
    "qwen2_moe": "leaves the 6 experts of this model and its routers as they are: it adapts 12 layers of shared experts and 12 other",
    "gpt_oss": "leaves the 6 experts of this model and its routers as they are: it adapts 12 other",
    "granitemoe": "leaves the 6 experts of this model and its routers as they are: it adapts 12 other",
}


@pytest.mark.parametrize("family", ADAPTED)
def test_what_all_linear_adapts_of_a_mixture_is_counted(family: str) -> None:
    finding = said(on_meta(family))["experts_all_linear"]
    assert ADAPTED[family] in finding.message.text("en")
    assert finding.severity == ("hint" if "leaves" in ADAPTED[family] else "warning")


def test_towers_that_stay_as_they_are_are_said() -> None:
    assert "vision_tower, multi_modal_projector" in said(gemma3())["towers_left_alone"].message.text("en")
    assert "towers_left_alone" in said(gemma3(), target_modules=["q_proj"])
    assert "towers_left_alone" not in said(gemma3(), target_modules=["gate_proj"])
    assert "towers_left_alone" not in said(on_meta("llama"))


def test_an_adapter_on_a_tower_alone_is_refused_for_text_trains_none_of_it() -> None:
    tree = tree_of_model(gemma3())

    def refused(**values: Any) -> list[str]:
        return [found.code for found in held_against_tree(ConfigView({"model_name": "m", **values}), tree)]

    assert refused(target_modules=["out_proj"]) == ["unfit_target"]
    assert refused(target_modules=["out_proj", "o_proj"]) == []
    assert refused(target_modules=["out_proj"], modules_to_save=["lm_head"]) == []


@pytest.mark.parametrize("targets", [["gate_up_proj"], ["q_proj", "gate_up_proj"], r".*\.experts\.gate_up_proj"])
def test_names_that_a_mixtures_files_lack_are_no_error_before_its_modules_are_known(targets: Any) -> None:
    """Its experts may be called so in memory."""
    facts = Facts(has_experts=True, linear_modules=("q_proj",), linear_names=("model.layers.0.self_attn.q_proj",))
    view = ConfigView({"model_name": "m", "target_modules": targets})
    found = {finding.code: finding for rule in OF_MODEL for finding in rule(view, facts)}["unmatched_target"]
    assert (found.severity, found.fixes) == ("warning", ())


def test_the_attention_of_a_mixture_is_offered_whole_before_its_modules_are_known() -> None:
    attention = ("q_a_proj", "q_b_proj", "kv_b_proj", "o_proj")
    facts = Facts(has_experts=True, linear_names=tuple(f"model.layers.0.self_attn.{name}" for name in attention))
    (found,) = (finding for rule in CHECKS for finding in rule(ConfigView({"model_name": "m"}), facts))
    assert dict(found.fix or {}) == {"target_modules": list(attention)}


def test_a_dotted_name_is_held_against_whole_names() -> None:
    found = said(on_meta("llama"), target_modules=["self_attn.q_proj", "mlp.q_proj"])
    assert "mlp.q_proj" in found["unmatched_target"].message.text("en")
    assert "self_attn.q_proj," not in found["unmatched_target"].message.text("en")


@pytest.mark.parametrize("family", [*MIXTURES, *HYBRIDS, "llama"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_can_be_attached_or_says_what_to_change(family: str, preset: str) -> None:
    """The fix that is offered first is enough."""
    tree = tree_of_model(on_meta(family))
    view = ConfigView({"model_name": "m", **PRESETS[preset].values})
    for finding in held_against_tree(view, tree):
        assert finding.fixes
        view = ConfigView(finding.fixes[0].changes.applied_to(view.values))
    assert not list(held_against_tree(view, tree))


def test_ranks_are_expected_where_the_adapter_will_be() -> None:
    tree = tree_of_model(on_meta("deepseek_v3"))
    ranks = expected_ranks({"r": 4, "target_modules": ["shared_experts.down_proj"]}, (), tree)
    assert ranks == {f"model.layers.{block}.mlp.shared_experts.down_proj": 4 for block in (1, 2)}


def test_whoever_traces_a_model_keeps_its_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path))
    facts = json.loads(LLAMA.to_json_string(use_diff=False))
    assert known_tree(facts, this_installation()) is None
    tracer(this_installation())(facts, TrainingConfig(model_name="m", precision="fp32"))
    assert known_tree(facts, this_installation()) == module_tree(facts)


@pytest.mark.parametrize("name", ["Qwen/Qwen1.5-MoE-A2.7B", "openai/gpt-oss-20b", "deepseek-ai/DeepSeek-V2-Lite"])
def test_the_catalogues_mixtures_are_counted_as_they_are(name: str) -> None:
    model = find_in_catalogue(name)
    assert model is not None
    tree = module_tree(model.config)
    config = {key: value for key, value in model.config.items() if "expert" in key}
    experts = next(config[key] for key in ("num_local_experts", "num_experts", "n_routed_experts") if key in config)
    assert tree.num_experts == experts * len(tree.routers)


def test_the_families_with_mambas_kernels_are_those_that_peft_refuses() -> None:
    for family in CONFIG_MAPPING:
        model = SimpleNamespace(config=SimpleNamespace(model_type=family))
        for name in ("out_proj", "conv1d", "in_proj", "o_proj"):
            refuses = False
            try:
                _check_lora_target_modules_mamba(LoraConfig(), model, name)  # type: ignore[arg-type]
            except ValueError:
                refuses = True
            assert refuses is is_refused(name, family), (family, name)


def test_mamba_is_told_by_its_files_what_to_change() -> None:
    facts = Facts(model_type="falcon_h1", linear_modules=("q_proj", "in_proj", "out_proj"))
    view = ConfigView({"model_name": "m", "target_modules": ["q_proj", "out_proj"]})
    (found,) = (finding for rule in CHECKS for finding in rule(view, facts))
    assert (found.code, dict(found.fix or {})) == ("refused_target", {"target_modules": ["q_proj"]})
    (found,) = (finding for rule in CHECKS for finding in rule(ConfigView({"model_name": "m"}), facts))
    assert (found.severity, found.code) == ("hint", "all_linear_leaves_out")
    assert "leaves out out_proj" in found.message.text("en")


def test_a_launch_that_builds_the_modules_refuses_by_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    make_model(tmp_path / "m")
    write_rows(tmp_path / "rows.jsonl", prompts())
    values = {"model_name": "m", "dataset": "rows.jsonl", "modules_to_save": ["embed"], "precision": "fp32"}
    judged = judge(from_here(values))
    assert not judged.blockers, "nobody has built the model's modules yet"
    answer = startable(judged, tracer(this_installation()))
    assert [blocker.code for blocker in answer.blockers] == ["unmatched_module_to_save"]
    with pytest.raises(CannotStartError, match="embed_tokens"):
        refuse_by_new_tree(judged)
    (now,) = judge(from_here(values)).blockers
    assert dict(now.fix or {}) == {"modules_to_save": ["embed_tokens"]}
