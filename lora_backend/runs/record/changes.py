"""What changed settings do to a run that is resumed: which are safe, which restart the schedule, which are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.config.diff import same_value
from lora_backend.config.schema import KEYS, REQUIRED
from lora_backend.i18n import N_, Message
from lora_backend.runs.record.run_folder import RunFolder
from lora_backend.runs.record.starts import attempts_of

Classified = dict[str, dict[str, Message]]
"""`safe`, `restarts_schedule` and `refused`, each key → why."""

_SAVING = N_("Decides what is written and when, not what is learned.")
_FROM_HERE = N_("Counts from the step on that the run has reached.")
_PLACE = N_("Says where the computing happens. Another device rounds otherwise, so the curve goes on close to, not exactly as, before.")  # fmt: skip
_SAME_SUM = N_("Computes the same sums another way. They round otherwise, so the curve goes on close to, not exactly as, before.")  # fmt: skip
SAFE = {
    **dict.fromkeys(
        ["save_steps", "save_total_limit", "logging_steps", "eval_strategy", "eval_steps", "questions", "max_time",
         "output_dir", "pkg", "version", "knowledge_type", "overwrite", "check_r_consistency", "strict_r_check"],
        _SAVING,
    ),
    **dict.fromkeys(["weight_decay", "max_grad_norm"], _FROM_HERE),
    **dict.fromkeys(["device_map", "use_balanced_device_map", "force_balance", "exclude_cpu", "min_memory_gb"], _PLACE),
    **dict.fromkeys(["gradient_checkpointing", "attn_implementation", "loss_type", "deterministic"], _SAME_SUM),
}  # fmt: skip
SCHEDULE = dict.fromkeys(
    ["learning_rate", "lr_scheduler_type", "warmup_ratio", "num_epochs", "max_steps"],
    N_("The learning rate's schedule is computed anew and entered at the step that the run has reached."),
)
_MODEL = N_("It would be another model, and the checkpoint is of this one.")
_ADAPTER = N_("The checkpoint's adapter has the form that the run began with.")
_DATA = N_("The run would go on in other data than it has read so far.")
REFUSED = {
    **dict.fromkeys(["model_name", "quantization", "precision"], _MODEL),
    **dict.fromkeys(
        ["r", "alpha", "target_modules", "target_layers", "lora_dropout", "rank_pattern", "alpha_pattern",
         "modules_to_save", "bias", "use_rslora", "use_dora", "init_lora_weights"],
        _ADAPTER,
    ),
    **dict.fromkeys(["dataset", "max_length", "val_size", "seed"], _DATA),
    "optim": N_("The checkpoint holds the state of the optimizer that the run began with."),
}  # fmt: skip
BATCH = ("batch_size", "target_batch_size")
_ROWS_PER_STEP = N_("It changes the rows of a step ({old} → {new}), and with them the place in the data. Keep `target_batch_size` at {old}.")  # fmt: skip


def classify(old: Mapping[str, Any], new: Mapping[str, Any]) -> Classified:
    """Every key whose value differs between two configs, sorted by what that means for a resumed run.

    A key that is left out counts as its default. A key that nobody knows is refused.
    """
    found: Classified = {"safe": {}, "restarts_schedule": {}, "refused": {}}
    for key in dict.fromkeys([*KEYS, *old, *new]):
        if same_value(_value(old, key), _value(new, key)):
            continue
        if key in BATCH:
            before, after = rows_per_step(old), rows_per_step(new)
            if before == after:
                found["safe"][key] = Message(_SAME_SUM)
            else:
                found["refused"][key] = Message(_ROWS_PER_STEP, {"old": before, "new": after})
        elif key in SAFE:
            found["safe"][key] = Message(SAFE[key])
        elif key in SCHEDULE:
            found["restarts_schedule"][key] = Message(SCHEDULE[key])
        else:
            found["refused"][key] = Message(REFUSED.get(key, N_("It is no key of a training config.")))
    return found


def rows_per_step(config: Mapping[str, Any]) -> int:
    """Rows of one optimizer step: `batch_size`, accumulated until `target_batch_size` is reached."""
    batch = int(_value(config, "batch_size"))
    return max(int(_value(config, "target_batch_size") or batch) // batch, 1) * batch


def config_as_changed(run: RunFolder, upto: int | None = None) -> dict[str, Any]:
    """The run's config with the changes of all its starts, in their order: what the next start trains by.

    `upto`: the number of a start, for the config that it trained by.
    """
    config: dict[str, Any] = dict(run.read_run()["config"])
    for attempt in attempts_of(run):
        changes = attempt.get("changes")
        if isinstance(changes, dict) and (upto is None or attempt["number"] <= upto):
            config |= changes
    return config


def _value(config: Mapping[str, Any], key: str) -> Any:
    if key in config:
        return config[key]
    return KEYS[key].default if key in KEYS and KEYS[key].default is not REQUIRED else None
