"""Rules across keys, and against what is known of model, data and machine. Pure: config and facts in, findings out.

Each module holds `RULES`, what it can find, and `CHECKS`, the functions that find it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from lora_backend.config.findings import Finding
from lora_backend.config.rules import (
    adapter_keys,
    base_model,
    best_keys,
    column_keys,
    data_facts,
    data_keys,
    device_keys,
    evaluation_keys,
    expression_keys,
    file_rules,
    machine_facts,
    model_facts,
    output_facts,
    process_facts,
    process_keys,
    publication_keys,
    recipe_keys,
    row_facts,
    rows_cut,
    secrecy,
    target_facts,
    training_keys,
)
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, Facts, GpuFact

__all__ = ["RULES", "ConfigView", "Facts", "GpuFact", "all_findings"]

_KEY_ROOMS = (
    expression_keys,
    adapter_keys,
    device_keys,
    process_keys,
    training_keys,
    recipe_keys,
    data_keys,
    evaluation_keys,
    best_keys,
    column_keys,
    publication_keys,
    secrecy,
)
_FACT_ROOMS = (
    base_model,
    model_facts,
    target_facts,
    data_facts,
    row_facts,
    rows_cut,
    machine_facts,
    process_facts,
    output_facts,
)

FILE_RULES: tuple[Rule, ...] = file_rules.RULES
"""What is wrong with the file, or with a key by itself."""
KEY_RULES: tuple[Rule, ...] = tuple(rule for room in _KEY_ROOMS for rule in room.RULES)
"""What keys say of each other."""
FACT_RULES: tuple[Rule, ...] = (*file_rules.UNUSABLE.values(), *(rule for room in _FACT_ROOMS for rule in room.RULES))
"""What model, data and machine say."""
RULES = (*FILE_RULES, *KEY_RULES, *FACT_RULES)


def all_findings(config: ConfigView, facts: Facts, invalid: Collection[str]) -> Iterator[Finding]:
    """What keys say of each other, and model, data and machine of them; keys in `invalid` are left out."""
    config = replace(config, invalid=frozenset(invalid))
    slow = tuple(expression_keys.too_slow(config, facts))
    if slow:
        config = replace(config, expressions=None)
    yield from slow
    for key_room in _KEY_ROOMS:
        for key_check in key_room.CHECKS:
            yield from key_check(config)
    for fact_room in _FACT_ROOMS:
        for fact_check in fact_room.CHECKS:
            yield from fact_check(config, facts)
