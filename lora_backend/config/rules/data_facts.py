"""Rules that hold the config against its data: format, number of rows, steps that follow from them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lora_backend.config.findings import Finding
from lora_backend.config.named_data import data_key
from lora_backend.config.patch import DELETE
from lora_backend.config.rules.evaluation_keys import evaluations_beside_checkpoints
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, FactCheck, Facts
from lora_backend.config.rules.training_keys import steps_that_never_come
from lora_backend.i18n import N_, Plural

_STEP_KEYS = ("val_size", "batch_size", "target_batch_size", "num_epochs", "max_steps")


def training_rows(config: ConfigView, num_rows: int) -> int:
    """Rows that are left to train on once some are held out."""
    share = config.get("val_size")
    return num_rows - min(max(1, round(num_rows * share)), num_rows - 1) if share else num_rows


NO_CHAT_TEMPLATE = Rule(
    "no_chat_template",
    "error",
    N_("The data set contains chats, but the model's tokenizer has no chat template to write them with."),
    N_("Use the instruct variant of the model, or data with `prompt` and `completion`."),
    broken="dataset: d.jsonl",
    fixed="dataset: d.jsonl",
    facts=Facts(has_chats=True, has_tokenizer=True, has_chat_template=False),
    fixed_facts=Facts(has_chats=False, has_tokenizer=True, has_chat_template=False),
)


def _chats(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    if facts.has_chats and facts.has_tokenizer and facts.has_chat_template is False:
        yield NO_CHAT_TEMPLATE.found(config, data_key(config.values))


NOTHING_TO_HOLD_BACK = Rule(
    "nothing_to_hold_back",
    "error",
    N_("`val_size` holds out rows, but the data set has only one."),
    N_("Set `val_size` to 0."),
    broken="dataset: d.jsonl\nval_size: 0.1\neval_strategy: epoch\nseed: 42",
    fixed="dataset: d.jsonl\nbatch_size: 1",
    facts=Facts(num_rows=1),
)

BATCH_BEYOND_ROWS = Rule(
    "batch_beyond_rows",
    "warning",
    Plural(
        "`{key}` is {step}, but there is only {count} row to train on, so a step never has that many.",
        "`{key}` is {step}, but there are only {count} rows to train on, so a step never has that many.",
    ),
    N_("Set `{key}` to at most {count}."),
    broken="batch_size: 17",
    fixed="batch_size: 16",
    facts=Facts(num_rows=16),
)


def _rows(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    if facts.num_rows is None or not config.has_good(*_STEP_KEYS):
        return
    if config.get("val_size") and facts.num_rows < 2:
        yield NOTHING_TO_HOLD_BACK.found(
            config, "val_size", None, config.change({"val_size": DELETE, "eval_strategy": DELETE})
        )
        return
    rows = training_rows(config, facts.num_rows)
    step_rows = config.get("target_batch_size") or config.get("batch_size")
    if step_rows > rows:
        key = "target_batch_size" if config.get("target_batch_size") else "batch_size"
        values = {"key": key, "step": step_rows, "count": rows}
        changes = {"batch_size": min(config.get("batch_size"), rows)}
        if "target_batch_size" in config.values:
            changes = {"target_batch_size": DELETE, **changes}
        is_written = bool({"batch_size", "target_batch_size"} & config.values.keys())
        yield BATCH_BEYOND_ROWS.found(
            config, key, values, config.change(changes), severity=None if is_written else "hint"
        )
    if config.get("batching") == "packed":  # how many lines the rows fill is not known here
        return
    batches = math.ceil(rows / config.get("batch_size"))
    per_epoch = max(math.ceil(batches * config.get("batch_size") / step_rows), 1)
    total = config.get("max_steps") or max(math.ceil(per_epoch * config.get("num_epochs")), 1)
    if not config.get("max_steps"):
        yield from steps_that_never_come(config, total)
    by_epoch = (
        config.has_good("eval_strategy", "eval_dataset", "save_steps", "save_total_limit")
        and config.get("eval_strategy") == "epoch"
    )
    # Who writes nothing of checkpoints did not ask for the best one.
    if (
        by_epoch
        and {"save_steps", "save_total_limit"} & config.values.keys()
        and (config.get("val_size") or config.get("eval_dataset"))
        and total > max(per_epoch, config.get("save_steps"))
    ):
        yield from evaluations_beside_checkpoints(config, per_epoch, "eval_strategy")


RULES = (
    NO_CHAT_TEMPLATE,
    NOTHING_TO_HOLD_BACK,
    BATCH_BEYOND_ROWS,
)
CHECKS: tuple[FactCheck, ...] = (_chats, _rows)
