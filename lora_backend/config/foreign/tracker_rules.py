"""Trackers in other tools' configs: a list of names, or a switch for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from lora_backend.config.foreign import reasons as why
from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.key_mapping import Carried, Rule, as_taken, is_off, is_on, lost, nothing, translated
from lora_backend.config.foreign.writing import Write, Written
from lora_backend.config.options import Tracker
from lora_backend.i18n import N_

KNOWN = get_args(Tracker)
OF_THEM = N_("`{target}` is {ours}; no others can be chosen here.")
SWITCHED_ON = N_("`{target}` is {ours}.")
SAID = N_("`{key}` already covers it.")


def trackers() -> Rule:
    """transformers' `report_to`; `all` depends on what is installed, and is not carried."""

    def apply(source: Source, key: str) -> Carried:
        value = source.get(key)
        if is_off(value) or value == ["none"]:
            return nothing(N_("Off, or at its default: nothing to carry over."))
        asked = value if isinstance(value, list) else [value]
        known = [name for name in asked if name in KNOWN]
        if not known:
            return lost(why.TRACKING)
        return as_taken("report_to", value) if known == asked else translated("report_to", known, OF_THEM)

    return Rule(apply, ("report_to",))


def switches(names: Mapping[str, str]) -> dict[str, Rule]:
    """A tool's switch → tracker. The first that is on says all of them."""

    def apply(source: Source, key: str) -> Carried:
        on = [name for name in names if is_on(source.values.get(name))]
        if key not in on:
            return nothing(N_("Off, or at its default: nothing to carry over."))
        if key != on[0]:
            return nothing(SAID, key=on[0])
        found = [names[name] for name in on]
        return translated("report_to", found if len(found) > 1 else found[0], SWITCHED_ON)

    return {name: Rule(apply, ("report_to",), SWITCHED_ON) for name in names}


def write_switches(names: Mapping[str, str]) -> Write:
    """Writes `report_to` as such switches."""

    def write(out: Written, key: str) -> None:
        asked = out[key] if isinstance(out[key], list) else [out[key]]
        out.carry(key, **{theirs: True for theirs, ours in names.items() if ours in asked})

    return write
