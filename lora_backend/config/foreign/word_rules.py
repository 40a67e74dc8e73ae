"""Names of optimizers and attention kernels: those that exist here are taken, the others are told by name."""

from __future__ import annotations

from lora_backend.config.accepted_values import takes
from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.key_mapping import Carried, Rule, as_taken, lost, nothing, translated
from lora_backend.config.options import NEW_NAMES, why_not_here
from lora_backend.config.schema import KEYS
from lora_backend.i18n import N_, Message

SAME_RULE = N_("`{target}` is {ours}, the same update rule.")
NO_OPTIMIZER = N_("There is no optimizer {value} here, so `{target}` stays {ours}: expect a different result.")
NO_KERNEL = N_(
    "There is no attention kernel {value} here; the model's own is used, which changes speed and memory only."
)
HUB_KERNEL = N_("Becomes `{target}`. It runs only where the package `kernels` is installed.")


def optimizer() -> Rule:
    """The name of an optimizer → `optim`."""

    def apply(source: Source, key: str) -> Carried:
        name = source.get(key)
        if name is None:
            return nothing(N_("Not set."))
        if isinstance(name, str) and name in NEW_NAMES:
            return translated("optim", NEW_NAMES[name], SAME_RULE)
        if takes("optim", name) or why_not_here("optim", name):
            return as_taken("optim", name)
        return lost(NO_OPTIMIZER, value=name, target="optim", ours=KEYS["optim"].default)

    return Rule(apply, ("optim",))


def attention() -> Rule:
    """The name of an attention kernel → `attn_implementation`."""

    def apply(source: Source, key: str) -> Carried:
        name = source.get(key)
        if name is None:
            return nothing(N_("Not set."))
        if not takes("attn_implementation", name):
            return lost(NO_KERNEL, value=name)
        if "/" in name:
            message = Message(HUB_KERNEL, {"target": "attn_implementation"})
            return Carried("taken", message, "attn_implementation", name)
        return as_taken("attn_implementation", name)

    return Rule(apply, ("attn_implementation",))
