"""Rules about training in several processes: what `strategy` asks for against what other keys say."""

from __future__ import annotations

from collections.abc import Iterator

from lora_backend.config.findings import Finding, Fix
from lora_backend.config.fix_offers import remove
from lora_backend.config.rules.fsdp_keys import why_not_fsdp
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, KeyCheck
from lora_backend.i18n import N_, Plural

OF_SEVERAL = ("ddp", "fsdp")
"""Strategies of several processes, each with a GPU of its own."""

STRATEGY_AND_PLACEMENT = Rule(
    "strategy_and_placement",
    "error",
    N_("`strategy: {strategy}` gives every process one GPU, so `{key}` cannot spread the model over several."),
    N_("Remove `{key}`, or set `strategy: layer_split` to spread the blocks over the GPUs."),
    broken="strategy: ddp\nbatch_size: 1\ntarget_batch_size: 2\nuse_balanced_device_map: true",
    fixed="strategy: ddp\nbatch_size: 1\ntarget_batch_size: 2",
)

MAP_WINS_OVER_STRATEGY = Rule(
    "map_wins_over_strategy",
    "warning",
    N_("`device_map` is set, so it is used as it is and `strategy` has no effect."),
    N_("Remove one of the two."),
    broken="strategy: layer_split\ndevice_map: auto",
    fixed="strategy: layer_split",
)


def _placement(config: ConfigView) -> Iterator[Finding]:
    """A map places one model in one process, so it is for a layer split; a strategy that says otherwise would be ignored."""
    if not config.has_good("strategy", "device_map", "use_balanced_device_map"):
        return
    strategy, has_map = config.get("strategy"), config.get("device_map") is not None
    said = {"strategy": strategy}
    if strategy in OF_SEVERAL:
        for key in ("device_map", "use_balanced_device_map"):
            if config.get(key):
                yield STRATEGY_AND_PLACEMENT.found(config, key, {**said, "key": key}, remove(key), remove("strategy"))
    elif has_map and strategy != "auto":
        yield MAP_WINS_OVER_STRATEGY.found(config, "strategy", said, remove("strategy"), remove("device_map"))
    elif strategy == "single" and config.get("use_balanced_device_map"):
        key = "use_balanced_device_map"
        yield STRATEGY_AND_PLACEMENT.found(
            config,
            key,
            {**said, "key": key},
            remove(key),
            remove("strategy"),
            sentence=N_("`strategy: {strategy}` uses one GPU, so `{key}` has nothing to spread the model over."),
        )


NOT_SHARED_OUT = Rule(
    "not_shared_out",
    "error",
    None,
    N_("With `strategy: ddp` each GPU holds the whole model, and `{key}` can stay."),
    broken="strategy: fsdp\nbatch_size: 1\ntarget_batch_size: 2\nquantization: nf4",
    fixed="strategy: ddp\nbatch_size: 1\ntarget_batch_size: 2\nquantization: nf4",
)
AGAINST_SHARDS = ("quantization", "torch_compile", "questions")
"""Keys that may stand in the way of fsdp alone."""


def _shards(config: ConfigView) -> Iterator[Finding]:
    """What cannot be in shares; a placement is no matter of fsdp alone, and said by a rule of its own."""
    asked = (*AGAINST_SHARDS, "init_lora_weights")
    if not config.has_good("strategy", *asked) or config.get("strategy") != "fsdp":
        return
    for key in AGAINST_SHARDS:
        said = why_not_fsdp({one: config.get(one) for one in (key, "init_lora_weights")})
        if said is not None:
            ddp = config.change({"strategy": "ddp"})
            yield NOT_SHARED_OUT.found(config, key, {"key": key}, ddp, remove(key), sentence=said)


NOT_OF_STRATEGY = Rule(
    "not_of_strategy",
    "error",
    N_("`{key}` is for several processes, but `strategy: {strategy}` trains in one."),
    N_("Remove `{key}`, or set `strategy: {other}`."),
    broken="strategy: single\nnum_processes: 2\nbatch_size: 1\ntarget_batch_size: 2",
    fixed="strategy: ddp\nnum_processes: 2\nbatch_size: 1\ntarget_batch_size: 2",
)


def _unused(config: ConfigView) -> Iterator[Finding]:
    """Whoever asks for processes and gets one shall hear of it before the start."""
    if not config.has_good("strategy", "device_map", "use_balanced_device_map"):
        return
    strategy = config.get("strategy")
    places = [key for key in ("device_map", "use_balanced_device_map") if config.get(key)]
    for key in ("num_processes", "num_nodes"):
        if not config.has_good(key) or (config.get(key) or 1) < 2 or strategy in OF_SEVERAL:
            continue
        if strategy != "auto":
            said = {"key": key, "strategy": strategy, "other": "ddp"}
            yield NOT_OF_STRATEGY.found(config, key, said, remove(key), config.change({"strategy": "ddp"}))
        elif places:
            yield NOT_OF_STRATEGY.found(
                config,
                key,
                {"key": key, "place": places[0]},
                remove(key),
                remove(places[0]),
                sentence=N_("`{key}` is for several processes, but `{place}` places the model in one."),
                remedy=N_("Remove one of the two."),
            )
    if config.has_good("fsdp_offload_params") and config.get("fsdp_offload_params") and strategy != "fsdp":
        yield NOT_OF_STRATEGY.found(
            config,
            "fsdp_offload_params",
            {"key": "fsdp_offload_params", "strategy": strategy, "other": "fsdp"},
            remove("fsdp_offload_params"),
            None if places else config.change({"strategy": "fsdp"}),
            sentence=N_(
                "`{key}` is for `strategy: fsdp`; `strategy: {strategy}` keeps the weights where they compute."
            ),
        )


ONE_PROCESS = Rule(
    "one_process",
    "error",
    N_("`strategy: {strategy}` needs two or more processes, but `num_processes` is 1."),
    N_("Remove `num_processes` to have one for each GPU, or set `strategy: single`."),
    broken="strategy: ddp\nbatch_size: 1\ntarget_batch_size: 2\nnum_processes: 1",
    fixed="strategy: ddp\nbatch_size: 1\ntarget_batch_size: 2\nnum_processes: 2",
)

FEWER_PASSES_THAN_PROCESSES = Rule(
    "fewer_passes_than_processes",
    "error",
    Plural(
        "A step has {count} micro-batch of {batch} rows, too few for {processes} processes: each needs one.",
        "A step has {count} micro-batches of {batch} rows, too few for {processes} processes: each needs one.",
    ),
    N_("Lower `batch_size` or raise `target_batch_size`: a step has `target_batch_size` / `batch_size` micro-batches."),
    broken="strategy: ddp\nnum_processes: 2\nbatch_size: 8",
    fixed="strategy: ddp\nnum_processes: 2\nbatch_size: 4\ntarget_batch_size: 8",
)


def _passes(config: ConfigView) -> Iterator[Finding]:
    """A step's micro-batches are dealt out to the processes; the effective batch stays what it is where that is possible."""
    keys = ("strategy", "num_processes", "num_nodes", "batch_size", "target_batch_size")
    if not config.has_good(*keys, "device_map", "use_balanced_device_map"):
        return
    strategy, num, nodes, batch, target = map(config.get, keys)
    if strategy not in OF_SEVERAL and not (strategy == "auto" and (num or 1) * nodes > 1 and not is_placed(config)):
        return
    if strategy in OF_SEVERAL and num == 1 and nodes == 1:
        alone = config.change({"strategy": "single"})
        yield ONE_PROCESS.found(config, "num_processes", {"strategy": strategy}, remove("num_processes"), alone)
        return
    needed, effective = max((num or 1) * nodes, 2), target or batch
    if effective % batch or effective // batch >= needed:  # what is no multiple is said by a rule of its own
        return
    said = {"count": effective // batch, "batch": batch, "processes": needed}
    fixes = passes_for(config, needed)
    yield FEWER_PASSES_THAN_PROCESSES.found(config, "batch_size", said, *fixes)


def passes_for(config: ConfigView, processes: int) -> list[Fix]:
    """What gives each of `processes` a micro-batch: smaller ones of the same rows a step, else more rows a step, or fewer
    processes."""
    batch = config.get("batch_size")
    effective, fixes = config.get("target_batch_size") or batch, []
    smaller = [size for size in range(1, batch) if effective % size == 0 and effective // size >= processes]
    if smaller:
        fixes.append(config.change({"batch_size": max(smaller), "target_batch_size": effective}))
    else:
        fixes.append(config.change({"target_batch_size": batch * processes}))
    passes = effective // batch
    if (config.get("num_processes") or 0) > passes >= 2 and config.get("num_nodes") == 1:
        fixes.append(config.change({"num_processes": passes}))
    return fixes


def is_placed(config: ConfigView) -> bool:
    """Whether the config itself says where the model lies, so that nothing is chosen for it."""
    return config.get("device_map") is not None or bool(config.get("use_balanced_device_map"))


RULES = (
    STRATEGY_AND_PLACEMENT,
    MAP_WINS_OVER_STRATEGY,
    NOT_SHARED_OUT,
    NOT_OF_STRATEGY,
    ONE_PROCESS,
    FEWER_PASSES_THAN_PROCESSES,
)
CHECKS: tuple[KeyCheck, ...] = (_placement, _shards, _unused, _passes)
