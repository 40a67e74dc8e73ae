"""`plan`: what every GPU will hold, and where each layer goes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from lora_backend.atomic import write_atomic
from lora_backend.commands.words import GOOD, NO, count_of, price_of, print_json, readable, setting
from lora_backend.config.schema import TrainingConfig
from lora_backend.i18n import N_, current_language, translate
from lora_backend.installation import this_installation
from lora_backend.planning.advice import Advice, advise, best_first
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.figures import figures
from lora_backend.planning.planner import options_of
from lora_backend.planning.report import tone
from lora_backend.planning.ways import options_on_this_machine, plan_single
from lora_backend.preflight.conditions import conditions_for
from lora_backend.preflight.gpu_price import gpu_price
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.plan_question import config_to_plan, known_only, planner_for, profiles
from lora_backend.preflight.resolve import resolve
from lora_backend.terminal import show, show_coloured
from lora_backend.views.plan_options import auto_message
from lora_backend.views.plan_view import advice_text, plan_document, plan_text
from lora_backend.views.strip_picture import strip_svg


def plan_command(arguments: argparse.Namespace) -> int:
    """Run the command."""
    values = readable(arguments.config).values if arguments.config else {}
    values = values | ({"model_name": arguments.model} if arguments.model else {}) | dict(map(setting, arguments.set))
    config = config_to_plan(values)
    installation = this_installation()
    price = price_of(arguments.price) if arguments.price else gpu_price(installation)
    rows = count_of(arguments.rows) if arguments.rows else None
    resolved = resolve(values, installation, AnyPath(installation.folder))
    facts = resolved.config_json
    planner, message = planner_for(facts, trace_here, installation, arguments.gpus, config)
    options = replace(options_of(config), goal=arguments.goal)
    alone = config.strategy == "single" and len(planner.targets) > 1
    plan = plan_single(planner, config, planner.targets) if alone else planner.plan(config, options)
    found = iter(()) if plan.verdict == "fits" else advise(planner, config, plan, options)
    known = replace(planner, profile_of=profiles(facts, known_only, installation))
    conditions = conditions_for(resolved, planner.targets, planner.link_speed, rows)
    said = figures(known, config, plan, conditions, goal=arguments.goal, price=price)
    if arguments.svg is not None:
        picture = strip_svg(plan, config.model_name, current_language(), arguments.theme)
        write_atomic(arguments.svg.parent.resolve() / arguments.svg.name, picture)  # a person's own place
    if arguments.json:
        options_here = options_on_this_machine(known, config, planner.targets, conditions, price)
        print_json(plan_document(plan, best_first(found), said, options_here))
    else:
        auto = auto_message(known, config, conditions)
        show_coloured(plan_text(plan, config, message, said, auto), tone(plan))
        _show_remedies(found)
    return GOOD if plan.fits else NO


def _show_remedies(found: Iterable[Advice]) -> None:
    """Each as it comes: the plan is there already, and a remedy that must be traced takes seconds."""
    heading = ["", translate(N_("Ways to save memory:"))]
    for remedy in found:
        show("\n".join([*heading, f"- {advice_text(remedy)}"]), flush=True)
        heading = []


def trace_here(facts: Mapping[str, Any], config: TrainingConfig) -> Profile:
    """A profile made in this process."""
    from lora_backend.modeling.lean import lean_profile

    return lean_profile(facts, config, this_installation())
