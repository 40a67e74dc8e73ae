"""What a config asks of its model's modules and the model does not have, or PEFT cannot do: before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from lora_backend.config.findings import Finding
from lora_backend.config.key_queries import keys_of_group
from lora_backend.config.rules import ConfigView, Facts
from lora_backend.errors import ExpressionError
from lora_backend.installation import Installation
from lora_backend.models.tree import ModuleTree
from lora_backend.verification.asked_layers import asked_of
from lora_backend.verification.refusals import refusals

KEYS_OF_THE_ADAPTER = keys_of_group("adapter")


def unattachable(config: ConfigView, facts: Facts, installation: Installation) -> Iterator[Finding]:
    """As a rule of `blockers.py`: says nothing until the model's tree is known."""
    if facts.tree is not None:
        yield from held_against_tree(config, facts.tree)


def held_against_tree(config: ConfigView, tree: ModuleTree) -> Iterator[Finding]:
    """What the trainer would refuse when it attaches the adapter, each with the nearest config that it would not."""
    if not config.has_good(*KEYS_OF_THE_ADAPTER):
        return
    values = {key: config.get(key) for key in KEYS_OF_THE_ADAPTER}
    try:
        found = refusals(values, asked_of(values, tree), tree)
    except ExpressionError:  # the check of the text says which one is too slow
        return
    for refusal in found:
        fixes = (config.change(changes) for changes in refusal.changes)
        yield config.finding("error", refusal.code, refusal.key, refusal.message, refusal.remedy, *fixes)
