"""Rules about how rows are written: the form that the config names, and the columns of its parts."""

from __future__ import annotations

from collections.abc import Iterator

from lora_backend.config.findings import Finding
from lora_backend.config.fix_offers import remove
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, KeyCheck
from lora_backend.data.forms import why_no_columns
from lora_backend.i18n import N_

COLUMNS_OF_NO_FORM = Rule(
    "columns_of_no_form",
    "error",
    None,
    N_("Name the parts of one form, each with its column."),
    broken="data_columns: {prompt: question, answer: reply}",
    fixed="data_columns: {prompt: question, completion: reply}",
)


def _columns(config: ConfigView) -> Iterator[Finding]:
    columns = config.get("data_columns")
    if not columns or not config.has_good("data_columns", "data_format"):
        return
    reason = why_no_columns(config.get("data_format"), columns)
    if reason is not None:
        yield COLUMNS_OF_NO_FORM.found(config, "data_columns", None, remove("data_columns"), sentence=reason)


RULES = (COLUMNS_OF_NO_FORM,)
CHECKS: tuple[KeyCheck, ...] = (_columns,)
