"""Rules about publishing an adapter under `pkg` and `version`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lora_backend.config.findings import Finding
from lora_backend.config.fix_offers import remove
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, KeyCheck
from lora_backend.config.schema import KEYS
from lora_backend.i18n import N_

INCOMPLETE_PUBLICATION = Rule(
    "incomplete_publication",
    "warning",
    N_("`{given}` is set and `{other}` is not, so the adapter is not published."),
    N_("Set `{other}` as well, or remove `{given}`."),
    broken="pkg: a",
    fixed="pkg: a\nversion: v1",
)

NOTHING_PUBLISHED = Rule(
    "nothing_published",
    "warning",
    N_("`{key}` has no effect without `pkg` and `version`: the adapter stays in its run's folder."),
    N_("Set `pkg` and `version`, or remove `{key}`."),
    broken="overwrite: true",
    fixed="overwrite: true\npkg: a\nversion: v1",
)


def _publication(config: ConfigView) -> Iterator[Finding]:
    if not config.has_good("pkg", "version"):
        return
    pkg, version = config.get("pkg"), config.get("version")
    if bool(pkg) != bool(version):
        names: dict[str, Any] = {"given": "pkg" if pkg else "version", "other": "version" if pkg else "pkg"}
        yield INCOMPLETE_PUBLICATION.found(config, names["given"], names, remove(names["given"]))
    elif not pkg:
        for key in ("knowledge_type", "overwrite"):
            if key not in config.invalid and key in config.values and config.get(key) != KEYS[key].default:
                yield NOTHING_PUBLISHED.found(config, key, {"key": key}, remove(key))


RULES = (
    INCOMPLETE_PUBLICATION,
    NOTHING_PUBLISHED,
)
CHECKS: tuple[KeyCheck, ...] = (_publication,)
