"""What stands beside a plan: of a checkpoint that comes quantized, and of an optimizer without figures of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lora_backend.errors import ModelError
from lora_backend.installation import this_installation
from lora_backend.models.quantized import Quantized
from lora_backend.planning.advice import advise
from lora_backend.planning.estimate import Conditions
from lora_backend.planning.figures import figures
from lora_backend.planning.planner import Planner, options_of
from lora_backend.planning.report import notes
from lora_backend.planning.split.chosen_split import Goal
from lora_backend.planning.targets import of_words
from lora_backend.preflight import plan_question as planning
from lora_backend.preflight.plan_question import of_checkpoint, planner_for
from lora_backend.views.plan_view import plan_text
from tests.planning.formula_plans import CONFIG, FACTS, source
from tests.planning.profiles import LLAMA

BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True}


def said(**how: Any) -> list[str]:
    return [message.text("en") for message in of_checkpoint({**LLAMA, "quantization_config": how})]


def test_a_checkpoint_whose_packages_are_missing_is_planned_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "missing_for", lambda quantized: ("gptqmodel>=7.0.0", "optimum>=1.24.0"))
    assert said(quant_method="gptq", bits=4) == [
        "The model's weights are quantized (gptq); loading them needs packages that are not installed here: gptqmodel>=7.0.0, optimum>=1.24.0.",
        "Weights packed by gptq are counted to the byte, but its layers were never run here: the rest may be off by 10%.",
    ]
    monkeypatch.setattr(planning, "missing_for", lambda quantized: ("bitsandbytes>=0.46.1",))
    assert said(**BNB) == [
        "The model's weights are quantized (bitsandbytes); loading them needs packages that are not installed here: bitsandbytes>=0.46.1."
    ]


def test_a_checkpoint_that_is_unpacked_says_why_it_is_so_large() -> None:
    assert said(quant_method="fp8") == [
        "The model's weights are quantized (fp8). They are unpacked for training, and take as much memory as full weights."
    ]
    assert (said(**BNB), of_checkpoint(LLAMA)) == ([], [])
    assert Quantized("fp8").treatment == "expanded"


def test_the_notes_of_a_checkpoint_stand_beside_its_plan() -> None:
    facts = {**LLAMA, "quantization_config": {"quant_method": "fp8"}}
    planner, message = planner_for(facts, lambda facts, config: source(LLAMA)(config), this_installation(), "24")
    known = Planner(source(LLAMA), planner.targets)
    plan = known.plan(CONFIG)
    text = plan_text(plan, CONFIG, message, figures(known, CONFIG, plan, Conditions()))
    assert "take as much memory as full weights" in text


def test_figures_that_cannot_be_are_refused_before_anything_is_traced() -> None:
    with pytest.raises(ModelError, match="`bits` in the model's quantization_config is 77"):
        planner_for(
            {**LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 77}},
            lambda *_: source(LLAMA)(CONFIG),
            this_installation(),
            "24",
        )


@pytest.mark.parametrize(("optim", "is_said"), [("grokadamw", True), ("ademamix", False), ("adafactor", False)])
def test_an_optimizer_without_figures_of_its_own_is_named(optim: str, is_said: bool) -> None:
    config = CONFIG.model_copy(update={"optim": optim})
    plan = Planner(source(LLAMA), of_words("24")).plan(config)
    sentence = f"The optimizer `{optim}` is not known here, so the states of AdamW are assumed."
    assert (sentence in [note.text("en") for note in notes(plan, config)]) is is_said


def test_everything_on_the_cpu_is_planned_there_whatever_gpus_are_named() -> None:
    for device_map in ("cpu", {"": "cpu"}):
        config = CONFIG.model_copy(update={"device_map": device_map, "precision": "fp32"})
        planner, message = planner_for(
            FACTS, lambda _, config: source(FACTS)(config), this_installation(), "24,12", config
        )
        plan = planner.plan(config)
        assert plan.strategy == "cpu"
        assert message is not None
        assert message.text("en") == "`device_map` puts the whole model on the CPU, so no GPU is used."
    planner, message = planner_for(FACTS, lambda _, config: source(FACTS)(config), this_installation(), "24,12", CONFIG)
    assert (len(planner.targets), message) == (2, None)


BALANCED = "To train with this placement, set `use_balanced_device_map: true`; without it, the whole model goes to GPU 0 (24 GiB)."
ANOTHER_GOAL = "To train with this placement, use the map that `--json` prints as the config's `device_map`."


@pytest.mark.parametrize(
    ("gpus", "goal", "keys", "said"),
    [
        ("24,12", "balance", {}, BALANCED),
        ("24,12", "balance", {"use_balanced_device_map": True}, None),
        ("24,12", "fewest", {}, None),
        ("24,12", "fewest", {"use_balanced_device_map": True}, ANOTHER_GOAL),
        ("12,24", "fewest", {}, ANOTHER_GOAL),
        ("24", "balance", {}, None),
        ("24,12", "balance", {"device_map": {"": 1}}, None),
    ],
)
def test_a_placement_that_a_run_would_not_get_says_how_to_get_it(
    gpus: str, goal: Goal, keys: dict[str, Any], said: str | None
) -> None:
    config = CONFIG.model_copy(update=keys)
    planner = Planner(source(FACTS), of_words(gpus))
    plan = planner.plan(config, replace(options_of(config), goal=goal))
    text = plan_text(plan, config, None, figures(planner, config, plan, Conditions(), goal=goal))
    assert [line for line in text.splitlines() if line.startswith("To train with this")] == ([said] if said else [])


def test_a_model_that_comes_quantized_is_not_told_to_be_quantized() -> None:
    """The trainer would refuse it. Without `quantization_config` the same is a remedy."""
    for facts, is_offered in ((FACTS, True), ({**FACTS, "quantization_config": BNB}, False)):
        planner, _ = planner_for(facts, lambda _, config: source(FACTS)(config), this_installation(), "4")
        config = CONFIG.model_copy(update={"precision": "bf16", "batch_size": 1, "max_length": 2048})
        found = list(advise(planner, config, planner.plan(config)))
        assert ("quantization" in {remedy.code for remedy in found}) is is_offered
