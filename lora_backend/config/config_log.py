"""What the log says of a config before it is used."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lora_backend.config.check import CheckResult
from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.findings import Severity
from lora_backend.config.schema import KEYS, REQUIRED

logger = logging.getLogger(__name__)
LEVELS: dict[Severity, int] = {"error": logging.ERROR, "warning": logging.WARNING, "hint": logging.INFO}


def log_config(config: Mapping[str, Any], result: CheckResult) -> None:
    """The whole config with what differs from the defaults, then every finding."""
    whole = {
        key: config.get(key, KEYS[key].default) for key in KEYS if key in config or KEYS[key].default is not REQUIRED
    }
    logger.info("config as it runs:\n%s", dump_yaml(whole).rstrip())
    changed = [f"{key} = {pair['value']!r} (default {pair['default']!r})" for key, pair in result.differences.items()]
    logger.info("differs from the defaults:\n%s", "\n".join(changed) or "nothing")
    for finding in result.findings:
        said = (finding.severity, finding.code, finding.message, finding.remedy)
        logger.log(LEVELS[finding.severity], "config %s [%s]: %s %s", *said)
