"""What a key that is none of ours means in a config of ours: as the tools say that have it, and only where they agree."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from lora_backend.config.config_text import ConfigDocument
from lora_backend.config.foreign.common_rules import BATCH_NOTE, LAUNCHER, accumulation, launcher_rank
from lora_backend.config.foreign.flat_source import Source, names_in
from lora_backend.config.foreign.key_mapping import Carried, Rule, Tool, absent, keep, keys, lost, take
from lora_backend.config.foreign.reasons import DISTRIBUTED
from lora_backend.config.foreign.tools import TOOLS, is_foreign, recognise
from lora_backend.config.schema import KEYS
from lora_backend.config.yaml_traps import to_ascii
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_, in_code

_INFORMAL = {
    "model_name": "model_id model_path pretrained_model_name_or_path",
    "dataset": "data data_file dataset_path train_data training_data",
    "max_length": "max_seq_len max_len seq_len sequence_length",
    "attn_implementation": "attn_impl attention_implementation",
    "r": "lora_dim",
    "lora_dropout": "adapter_dropout",
    "target_modules": "lora_modules target_module",
    "use_rslora": "rslora",
    "use_dora": "dora",
    "num_epochs": "epochs epoch n_epochs",
    "learning_rate": "lr",
    "lr_scheduler_type": "scheduler scheduler_type",
    "warmup_ratio": "warmup",
    "batch_size": "per_device_batch_size train_micro_batch_size_per_gpu",
    "target_batch_size": "effective_batch_size total_batch_size",
    "gradient_checkpointing": "use_gradient_checkpointing",
    "weight_decay": "wd",
    "max_grad_norm": "max_norm clip_grad_norm grad_clip",
    "seed": "random_seed manual_seed random_state",
    "val_size": "validation_split val_split eval_size",
    "output_dir": "output output_path output_folder save_dir save_path",
    "save_total_limit": "max_checkpoints",
    "logging_steps": "log_steps log_interval",
    "save_steps": "save_interval checkpoint_steps",
    "eval_steps": "eval_interval",
}
INFORMAL = {name: key for key, names in _INFORMAL.items() for name in names.split()}
"""Name that people give to a key of ours, and that no tool's config has → ours."""
_CAMEL_CASE = re.compile(r"[a-z]+[0-9]*([A-Z][a-z0-9]+)+")
OF_ONE_GPU = keys("micro_batch_size train_micro_batch_size_per_gpu")
DIFFERENTLY = N_("{one} and {other} read it differently. Write {targets} instead.")
TIMES = N_("Set `target_batch_size` to `batch_size` × {steps}.")


def plain_name(name: str) -> str:
    """A key as it is compared: lower case, no hyphens, `loraAlpha` as `lora_alpha`, full-width letters as ordinary ones."""
    plain = to_ascii(name).strip()
    if _CAMEL_CASE.fullmatch(plain):
        plain = re.sub(r"(?<!^)(?=[A-Z])", "_", plain)
    return plain.lower().replace("-", "_")


OF_LAUNCHERS = {"num_processes"}
"""Keys of ours that a file has as well which only tells accelerate how to start processes."""


def known_tools(name: str) -> tuple[Tool, ...]:
    """The tools whose configs have a key of that name."""
    return tuple(tool for tool in TOOLS.values() if name in tool.rules)


def tool_of(document: ConfigDocument) -> Tool:
    """Whose config it is; a config of ours that holds keys of others is ours. Raises `ConfigError` as `recognise` does."""
    foreign = is_foreign(document)
    names = [name for name in map(plain_name, document.values) if name not in OF_LAUNCHERS]
    has_ours = any(name in KEYS for name in names)
    if not foreign and has_ours and any(_is_of_another(name) for name in names):
        return OURS
    try:
        return recognise(document)
    except ConfigError:
        has_ours = has_ours or any(targets_of(name) for name in names)
        is_marked = any(tool.markers & names_in(document.values, tool.sections) for tool in TOOLS.values())
        if foreign and has_ours and not is_marked:
            return OURS  # no tool's for certain, but all that it says is known
        raise


def _is_of_another(name: str) -> bool:
    others = [tool for tool in known_tools(name) if tool.id != "original"]
    return name not in KEYS and (bool(others) or name in INFORMAL)


def meaning(key: str, values: Mapping[str, Any]) -> Carried | None:
    """What `key` of a config that says `values` is here; None for one that nobody is known to have."""
    rule = OURS.rule(key)
    return None if rule is None else rule.apply(Source(values), key)


def targets_of(key: str) -> tuple[str, ...]:
    """Our keys that a key can become, whatever its value."""
    rule = OURS.rule(key)
    return () if rule is None else rule.targets


def renamed(values: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Every value under our name where it means the same here, else under its own, with the name that it had; what is
    called so by us already comes first, for a file may have both `r` and `lora_r`."""
    found: dict[str, tuple[str, Any]] = {}
    places = {name: place for place, name in enumerate(values)}
    for name in sorted(values, key=lambda name: name not in KEYS):
        for key, value in _here(name, values):
            found.setdefault(key, (name, value))
    return dict(sorted(found.items(), key=lambda item: places[item[1][0]]))


def _here(name: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    carried = meaning(name, values)
    if name in KEYS and (carried is None or carried.target_key in (None, name)):
        yield name, values[name]
    elif carried is not None and carried.target_key is not None:
        yield carried.target_key, carried.target_value
    elif carried is None or carried.outcome == "not_supported" or not targets_of(name):
        yield name, values[name]


# ---------------------------------------------------------------------------------- a config of ours


def _stray(key: str) -> Rule | None:
    """The rule for a key that is not ours by its letters."""
    name = plain_name(key)
    if name in KEYS:
        return take(name)
    if name in _SPECIAL:
        return _SPECIAL[name]
    tools = known_tools(name)
    if tools:
        targets = dict.fromkeys(target for tool in tools for target in tool.rules[name].targets)
        return Rule(lambda source, _: _agreed(name, tools, source, key), tuple(targets))
    return take(INFORMAL[name]) if name in INFORMAL else None


def _agreed(name: str, tools: tuple[Tool, ...], source: Source, key: str) -> Carried:
    """What all tools with that key make of it, or else the one whose keys are most in the file."""
    read = Source({**source.values, name: source.values[key]}, source.lines)
    carried = {tool.id: tool.rules[name].apply(read, name) for tool in tools}
    answers = {tool_id: _answer(item) for tool_id, item in carried.items()}
    if len(set(answers.values())) > 1:
        strays = [one for one in source.values if one not in KEYS]
        counts = Counter({tool.id: sum(one in tool.rules for one in strays) for tool in tools})
        (first, most), (_, next_most) = counts.most_common(2)
        if most == next_most:
            return _differently(name, tools, answers)
        return carried[first]
    return next(iter(carried.values()))


def _answer(carried: Carried) -> tuple[str | None, str]:
    """Two answers with the same of this come to the same."""
    return carried.target_key, repr(carried.target_value) if carried.target_key else ""


def _differently(name: str, tools: tuple[Tool, ...], answers: Mapping[str, object]) -> Carried:
    one = tools[0]
    other = next(tool for tool in tools if answers[tool.id] != answers[one.id])
    targets = dict.fromkeys(target for tool in tools for target in tool.rules[name].targets)
    return lost(DIFFERENTLY, one=one.title, other=other.title, targets=in_code(targets))


def _accumulated(source: Source, key: str) -> Carried:
    """Accumulation steps times the rows of the same file; our default is not counted with."""
    rows = {source.values[name] for name in source.values if _is_batch(name) and type(source.values[name]) is int}
    if len(rows) != 1 and source.values.get(key) not in (None, 1):
        return lost(TIMES, steps=source.values.get(key))
    return accumulation("batch_size").apply(Source({**source.values, "batch_size": next(iter(rows), None)}), key)


def _is_batch(name: str) -> bool:
    """Whether a key says how many rows a forward pass has."""
    plain = plain_name(name)
    others = {target for tool in known_tools(plain) for target in tool.rules[plain].targets if plain not in KEYS}
    return plain == "batch_size" or INFORMAL.get(plain) == "batch_size" or others == {"batch_size"}


def _batch(source: Source, key: str) -> Carried:
    """Rows of a forward pass; beside a name for those of one GPU they are those of a whole step, as in axolotl and DeepSpeed."""
    if any(type(source.values.get(name)) is int for name in OF_ONE_GPU):
        return TOOLS["axolotl"].rules["batch_size"].apply(Source({"batch_size": source.values[key]}), "batch_size")
    return (keep if key in KEYS else take)("batch_size").apply(source, key)


_BATCH = Rule(_batch, ("batch_size", "target_batch_size"), BATCH_NOTE)
_SPECIAL = {
    **{name: absent(DISTRIBUTED) for name in LAUNCHER if not known_tools(name)},
    "gradient_accumulation_steps": Rule(_accumulated, ("target_batch_size",), BATCH_NOTE),
    "rank": launcher_rank(),
    "use_gradient_checkpointing": TOOLS["unsloth"].rules["training.gradient_checkpointing"],
    "train_batch_size": _BATCH,
}
OURS = Tool(
    id="ours",
    title="LoRA Flightdeck",
    markers=frozenset(KEYS),
    rules={
        **{key: keep(key) for key in KEYS},
        "batch_size": _BATCH,
    },
    defaults=lambda values: {},
    also=_stray,
)
"""A config of ours, with its strays: keys of any other tool."""
