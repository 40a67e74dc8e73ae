"""Rules that several tools need: batches, warm-up, number formats, targets, quantization, data files."""

from __future__ import annotations

from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.key_mapping import (
    Carried,
    Rule,
    as_taken,
    is_off,
    is_on,
    keys,
    lost,
    nothing,
    number,
    translated,
)
from lora_backend.config.foreign.reasons import DISTRIBUTED, QUANTIZED, STORED
from lora_backend.config.schema import KEYS
from lora_backend.i18n import N_, Message, Plural

BATCH = N_("{rows} on each GPU, {times}: `{target}` is {ours}. With several GPUs it was that many times more.")
BATCH_NOTE = N_(
    "Rows per forward pass × accumulation steps gives `target_batch_size`; the number of GPUs is not in the file."
)
TOTAL = N_("`{target}` is {ours}, the rows of one step over all GPUs.")
NO_MULTIPLE = Plural(
    "{count} row in a step is not a multiple of {batch} rows in a forward pass. Set `target_batch_size`, for example to {below}.",
    "{count} rows in a step are not a multiple of {batch} rows in a forward pass. Set `target_batch_size`, for example to {below}.",
)
WARMUP = Plural("{steps} of {count} step: `{target}` is {ours}.", "{steps} of {count} steps: `{target}` is {ours}.")
WARMUP_NOTE = N_("Steps / `max_steps` gives `warmup_ratio`; without `max_steps` it cannot be computed.")
WARMUP_UNKNOWN = Plural(
    "The file does not say how many steps there will be, so {count} step cannot become a share of them. Set `warmup_ratio` to {count} / number of steps.",
    "The file does not say how many steps there will be, so {count} steps cannot become a share of them. Set `warmup_ratio` to {count} / number of steps.",
)
PRECISION = N_("`{target}` is {ours}.")
FLAG_NOTE = N_("`bf16: true` is `precision: bf16`, `fp16: true` is `fp16`.")
BOTH_FLAGS_NOTE = N_("`bf16: true` is `precision: bf16`, `fp16: true` is `fp16`; both off is `fp32`.")
TARGETS = N_("`{target}` is {ours}.")
TARGETS_NOTE = N_("`all` is `all-linear`; names with commas become a list.")
ALL_AND_OTHERS = N_("`{target}` is {ours}, which is every linear layer. Not carried over: {others}.")
NO_TARGETS = N_(
    "No targets are named. PEFT would use its own list for the model family; here it is `all-linear`. Name the modules in `target_modules`."
)
QUANT = N_("`{target}` is {ours}.")
QUANT_NOTE = N_("4 bits are `quantization: nf4`, 8 bits `int8`.")
LAUNCHER = keys(
    "world_size local_rank num_gpus nproc_per_node nnodes node_rank master_addr master_port dist_backend dist_url"
)
RANK_NOTE = N_(
    "With `world_size` or `local_rank`, or below 1, it is the rank of a process, so nothing is carried over."
)
OFF_NOTE = N_("0 or less means not set.")


def steps_or_none(target: str) -> Rule:
    """A number of steps, where 0 and less stand for “not set”."""

    def apply(source: Source, key: str) -> Carried:
        value = number(source.get(key))
        if source.get(key) is None or (value is not None and value <= 0):
            return nothing(N_("Not set."))
        return as_taken(target, source.get(key))

    return Rule(apply, (target,), OFF_NOTE)


def launcher_rank() -> Rule:
    """The number of a process beside other words of a launcher, or below 1; else what LoRA calls so."""

    def apply(source: Source, key: str) -> Carried:
        rank = number(source.get(key))
        if LAUNCHER & source.values.keys() or rank is None or rank < 1:
            return lost(DISTRIBUTED)
        return as_taken("r", source.get(key))

    return Rule(apply, ("r",), RANK_NOTE)


def accumulation(batch_key: str) -> Rule:
    """Forward passes per optimizer step → `target_batch_size`."""

    def apply(source: Source, key: str) -> Carried:
        steps, batch = number(source.get(key)), number(source.get(batch_key))
        if steps == 1 or (steps is None and source.get(key) is None):
            return nothing(N_("Each forward pass is a step: nothing to carry over."))
        if not isinstance(steps, int) or not isinstance(batch, int):
            return lost(N_("`{key}` and `{batch_key}` must be whole numbers."), key=key, batch_key=batch_key)
        return translated(
            "target_batch_size",
            steps * batch,
            BATCH,
            rows=Message(Plural("{count} row", "{count} rows"), {"count": batch}),
            times=Message(Plural("{count} time", "{count} times"), {"count": steps}),
        )

    return Rule(apply, ("target_batch_size",), BATCH_NOTE)


def total_batch(batch_key: str) -> Rule:
    """The rows of a whole step → `target_batch_size`, where the rows of a forward pass go into them."""

    def apply(source: Source, key: str) -> Carried:
        total, batch = number(source.get(key)), number(source.get(batch_key))
        if is_off(source.get(key)):
            return nothing(N_("Not set."))
        batch = batch if isinstance(batch, int) and batch > 0 else KEYS["batch_size"].default
        if isinstance(total, int) and total > 0 and total % batch:
            return lost(NO_MULTIPLE, total=total, batch=batch, below=max(total // batch, 1) * batch)
        return translated("target_batch_size", source.get(key), TOTAL)

    return Rule(apply, ("target_batch_size",), BATCH_NOTE)


def warmup_steps(total_key: str = "max_steps") -> Rule:
    """A number of steps, or (below 1, as in transformers) a share of them → `warmup_ratio`."""

    def apply(source: Source, key: str) -> Carried:
        steps, total = number(source.get(key)), number(source.get(total_key))
        if steps == 0 or source.get(key) is None:
            return nothing(N_("No warm-up, unless a ratio says so: nothing to carry over."))
        if steps is not None and 0 < steps < 1:
            return as_taken("warmup_ratio", steps)
        if steps is not None and total is not None and total > steps > 0:
            return translated("warmup_ratio", steps / total, WARMUP, steps=steps, count=total)
        return lost(WARMUP_UNKNOWN, count=source.get(key))

    return Rule(apply, ("warmup_ratio",), WARMUP_NOTE)


def warmup_ratio(steps_key: str = "warmup_steps") -> Rule:
    """A share of the steps, which a number of steps beats."""

    def apply(source: Source, key: str) -> Carried:
        steps = number(source.values.get(steps_key))
        if steps:
            return nothing(N_("`{key}` is also set and takes precedence."), key=steps_key)
        return nothing(N_("Not set.")) if source.get(key) is None else as_taken("warmup_ratio", source.get(key))

    return Rule(apply, ("warmup_ratio",))


def precision_flag(word: str, other_key: str, neither: str | None = None) -> Rule:
    """`bf16` and `fp16` → `precision`. `neither`: what it is when both are off, said by the key that has it."""

    def apply(source: Source, key: str) -> Carried:
        value, other = source.get(key), source.get(other_key)
        if value == "auto":
            return translated("precision", "auto", PRECISION)
        if is_on(value) and not (is_on(source.values.get(other_key)) and source.values.get(key) is None):
            return translated("precision", word, PRECISION)
        if is_off(value) and neither and not is_on(other) and other != "auto":
            return translated("precision", neither, PRECISION)
        return (
            nothing(N_("Off: nothing to carry over."))
            if is_off(value) or is_on(value)
            else as_taken("precision", value)
        )

    return Rule(apply, ("precision",), BOTH_FLAGS_NOTE if neither else FLAG_NOTE)


def targets(*, all_words: tuple[str, ...] = ("all", "all-linear"), is_expression: bool = False) -> Rule:
    """Names of modules → `target_modules`. `is_expression`: a text is a regular expression, not a list of names."""

    def apply(source: Source, key: str) -> Carried:
        value = source.get(key)
        if is_off(value):
            return lost(NO_TARGETS)
        if isinstance(value, str) and not is_expression:
            value = [name.strip() for name in value.split(",") if name.strip()]
        others = [name for name in value if name not in all_words] if isinstance(value, list) else []
        if isinstance(value, list) and others and len(others) < len(value):
            return translated("target_modules", "all-linear", ALL_AND_OTHERS, others=", ".join(map(str, others)))
        if value in all_words or (isinstance(value, list) and value and not others):
            return (
                as_taken("target_modules", "all-linear")
                if value == "all-linear"
                else translated("target_modules", "all-linear", TARGETS)
            )
        if value == source.get(key):
            return as_taken("target_modules", value)
        return translated("target_modules", value, TARGETS)

    return Rule(apply, ("target_modules",), TARGETS_NOTE)


def names(target: str) -> Rule:
    """A list of names, or names with commas."""

    def apply(source: Source, key: str) -> Carried:
        value = source.get(key)
        if is_off(value):
            return nothing(N_("Not set."))
        if isinstance(value, str):
            return translated(target, [name.strip() for name in value.split(",") if name.strip()], TARGETS)
        return as_taken(target, value)

    return Rule(apply, (target,), N_("Names with commas become a list."))


def pattern(target: str) -> Rule:
    """Names of modules with a value each; an empty one is none."""

    def apply(source: Source, key: str) -> Carried:
        return as_taken(target, source.get(key)) if source.get(key) else nothing(N_("Not set."))

    return Rule(apply, (target,))


def load_in(bits: int, kind_key: str | None = None) -> Rule:
    """`load_in_4bit`, `load_in_8bit` → `quantization`. `kind_key` says which 4 bits."""

    def apply(source: Source, key: str) -> Carried:
        if is_off(source.get(key)):
            return nothing(N_("Off: nothing to carry over."))
        if bits == 4 and kind_key and source.get(kind_key) not in (None, "nf4"):
            return lost(QUANTIZED)
        return translated("quantization", "nf4" if bits == 4 else "int8", QUANT)

    return Rule(apply, ("quantization",), QUANT_NOTE)


def any_of(target: str, *keys: str) -> Rule:
    """A switch that several keys turn on."""

    def apply(source: Source, key: str) -> Carried:
        value = source.get(key)
        if is_off(value) and any(is_on(source.get(other)) for other in keys if other != key):
            return nothing(N_("Off, but another key turns it on."))
        return nothing(N_("Not set.")) if value is None else as_taken(target, value)

    return Rule(apply, (target,))


def stored() -> Rule:
    """The base model's own number format; here it follows `precision`."""

    def apply(source: Source, key: str) -> Carried:
        value = source.get(key)
        value = value.removeprefix("torch.") if isinstance(value, str) else value
        is_same = value in (None, "auto", "bfloat16") or (value == "float32" and is_off(source.get("bf16")))
        return nothing() if is_same else lost(STORED)

    return Rule(apply, (), STORED)
