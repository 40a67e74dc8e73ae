"""Rules across keys, and against what is known of model, data and machine. Pure: config and facts in, findings out."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from lora_backend.config.findings import Finding
from lora_backend.config.rules import adapter_keys as adapter
from lora_backend.config.rules import base_model, data_facts, machine_facts, model_facts, secrecy, target_facts
from lora_backend.config.rules import device_keys as devices
from lora_backend.config.rules import expression_keys as expressions
from lora_backend.config.rules import training_keys as training
from lora_backend.config.rules.base import ConfigView, Facts, GpuFact

__all__ = ["ConfigView", "Facts", "GpuFact", "all_rules"]


def all_rules(config: ConfigView, facts: Facts, invalid: Collection[str]) -> Iterator[Finding]:
    """What keys say of each other, and model, data and machine of them; keys in `invalid` are left out."""
    config = replace(config, invalid=frozenset(invalid))
    slow = tuple(expressions.too_slow(config, facts))
    if slow:
        config = replace(config, expressions=None)
    yield from slow
    yield from _across_keys(config)
    yield from _against_facts(config, facts)


def _across_keys(config: ConfigView) -> Iterator[Finding]:
    for rule in (*adapter.RULES, *devices.RULES, *training.RULES, *secrecy.RULES):
        yield from rule(config)


def _against_facts(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    for rule in (*base_model.RULES, *model_facts.RULES, *target_facts.RULES, *data_facts.RULES, *machine_facts.RULES):
        yield from rule(config, facts)
