"""`plan`: what every GPU will hold, and where each layer goes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lora_backend.commands.words import GOOD, NO, print_json, readable, setting
from lora_backend.config.schema import TrainingConfig
from lora_backend.planning.advice import advise
from lora_backend.planning.planner import options_of
from lora_backend.planning.profile import Profile
from lora_backend.planning.report import plan_document, plan_text
from lora_backend.preflight.planning import config_to_plan, model_facts, planner_for
from lora_backend.settings import load_settings
from lora_backend.terminal import show_coloured


def plan_command(arguments: argparse.Namespace) -> int:
    """Run the command."""
    values = readable(arguments.config).values if arguments.config else {}
    values = values | ({"model_name": arguments.model} if arguments.model else {}) | dict(map(setting, arguments.set))
    config = config_to_plan(values)
    planner, message = planner_for(model_facts(config.model_name), trace_here, load_settings(), arguments.gpus)
    plan = planner.plan(config, replace(options_of(config), goal=arguments.goal))
    advice = advise(planner, config, plan)
    if arguments.json:
        print_json(plan_document(plan, advice))
    else:
        show_coloured(plan_text(plan, config, advice, message), "good" if plan.fits else "bad")
    return GOOD if plan.fits else NO


def trace_here(facts: Mapping[str, Any], config: TrainingConfig) -> Profile:
    """A profile made in this process."""
    from lora_backend.modeling.profiling import profile_for  # torch: only where no profile is known

    return profile_for(facts, config)
