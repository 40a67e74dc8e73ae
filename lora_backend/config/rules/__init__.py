"""Rules across keys, and against what is known of model, data and machine. Pure: config and facts in, findings out."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from lora_backend.config.findings import Finding
from lora_backend.config.rules import adapter, data_facts, devices, machine_facts, model_facts, secrecy, training
from lora_backend.config.rules.base import ConfigView, Facts, GpuFact

__all__ = ["ConfigView", "Facts", "GpuFact", "across_keys", "against_facts"]


def across_keys(config: ConfigView, invalid: Collection[str]) -> Iterator[Finding]:
    """What keys say of each other; keys in `invalid` are left out."""
    config = replace(config, invalid=frozenset(invalid))
    for rule in (*adapter.RULES, *devices.RULES, *training.RULES, *secrecy.RULES):
        yield from rule(config)


def against_facts(config: ConfigView, facts: Facts, invalid: Collection[str]) -> Iterator[Finding]:
    """What model, data and machine say of the config; keys in `invalid` are left out."""
    config = replace(config, invalid=frozenset(invalid))
    for rule in (*model_facts.RULES, *data_facts.RULES, *machine_facts.RULES):
        yield from rule(config, facts)
