"""The rule about secrets, which every run keeps a copy of."""

from __future__ import annotations

from collections.abc import Iterator

from lora_backend.config.findings import Finding
from lora_backend.config.fix_offers import remove
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, KeyCheck
from lora_backend.config.schema import KEYS, REQUIRED
from lora_backend.config.secrets import holds_secret
from lora_backend.i18n import N_

SECRET_IN_CONFIG = Rule(
    "secret_in_config",
    "warning",
    N_("`{key}` looks like it contains a secret; every run keeps a copy of its config."),
    N_("Remove it and revoke it where it was issued; put the hub token in the environment variable HF_TOKEN."),
    broken="dataset: hf_abcdefghijklmnopqrst",
    fixed="dataset: hf_short.jsonl",
)


def _secrets(config: ConfigView) -> Iterator[Finding]:
    for key, value in config.values.items():
        if holds_secret(key, value):
            required = key in KEYS and KEYS[key].default is REQUIRED
            yield SECRET_IN_CONFIG.found(config, key, {"key": key}, None if required else remove(key))


RULES = (SECRET_IN_CONFIG,)
CHECKS: tuple[KeyCheck, ...] = (_secrets,)
