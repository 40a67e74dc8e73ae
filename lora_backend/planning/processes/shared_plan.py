"""Plans of several processes, each of which computes the whole model: `ddp` and `fsdp`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from lora_backend.config.rules.fsdp_keys import why_not_fsdp
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import PlanError, UntrainableError
from lora_backend.i18n import N_, Plural
from lora_backend.planning.cost.memory import EMPTY, Breakdown, Memory, Workload
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.shards import ShardedMemory, memory_of
from lora_backend.planning.plan import DevicePlan, Options, Plan, device_plan, usable_targets
from lora_backend.planning.processes.dealt import passes_of, rounds_of
from lora_backend.planning.targets import Target
from lora_backend.planning.verdict import ORDER

Shared = Literal["ddp", "fsdp"]


def make_shared_plan(
    strategy: Shared,
    profile: Profile,
    config: TrainingConfig,
    workload: Workload,
    targets: Sequence[Target],
    *,
    options: Options | None = None,
    host: Target | None = None,
) -> Plan:
    """What every device holds that has one of the processes; where there is no GPU, what all of them hold in host memory.

    `host`: the host's memory, where `fsdp_offload_params` puts the weights; None: nobody knows how much there is.
    Raises `PlanError` where this machine cannot have so many processes, `UntrainableError` for what does not train so,
    `TooLittleMemoryError` where no GPU has `min_memory_gb`.
    """
    refuse_what_cannot_be_shared(strategy, config)
    count = num_processes_on(strategy, config, targets, options)
    world = count * config.num_nodes
    on_gpu = not all(target.is_cpu for target in targets)
    memory = memory_of(
        profile,
        replace(
            workload,
            accumulates=rounds_of(config, world) > 1,
            on_gpu=on_gpu,
            num_processes=world,
            is_sharded=strategy == "fsdp" and world > 1,
            offloads=strategy == "fsdp" and config.fsdp_offload_params and on_gpu,
        ),
    )
    if not on_gpu:
        devices = [_on_host(memory, targets[0], count)]
    else:
        devices = _on_gpus(memory, targets, count, options)
        if memory.workload.offloads and host is not None:
            devices.append(_offloaded(memory, host, count))
    return Plan(strategy, tuple(devices), (), profile, memory.workload, count, config.num_nodes)


def num_processes_on(
    strategy: Shared, config: TrainingConfig, targets: Sequence[Target], options: Options | None = None
) -> int:
    """Processes on this machine: as many as the config says, else one for each GPU that a step has a micro-batch for.

    Raises `PlanError` where there are not so many GPUs, or fewer than two processes would train together.
    """
    gpus = [targets[index] for index in usable_targets(targets, options or Options()) if not targets[index].is_cpu]
    asked = config.num_processes
    if gpus and asked is not None and asked > len(gpus):
        raise PlanError(
            Plural(
                "`num_processes: {asked}` needs as many GPUs, but there is {count}. Set `num_processes: {count}` or less.",
                "`num_processes: {asked}` needs as many GPUs, but there are {count}. Set `num_processes: {count}` or less.",
            ),
            asked=asked,
            count=len(gpus),
        )
    if not gpus and asked is None:
        raise PlanError(
            N_("`strategy: {strategy}` on a CPU needs `num_processes`: the processes share its cores."),
            strategy=strategy,
        )
    passes = passes_of(config)
    count = asked or max(min(len(gpus), passes // config.num_nodes), 1)
    if count * config.num_nodes > 1:
        return count
    if len(gpus) > 1 and asked is None:
        raise PlanError(
            N_(
                "An optimizer step has one micro-batch of {rows} rows, so there is nothing to share among GPUs. Lower `batch_size`, or raise `target_batch_size`."
            ),
            rows=config.batch_size,
        )
    raise PlanError(
        N_("`strategy: {strategy}` needs at least two processes. Set `strategy: single`."), strategy=strategy
    )


def refuse_what_cannot_be_shared(strategy: Shared, config: TrainingConfig) -> None:
    """Raise for keys that do not go with a process for each device."""
    if config.device_map is not None and config.device_map != "cpu":
        raise PlanError(
            N_(
                "`device_map` spreads one model over devices, but with `strategy: {strategy}` every process has its own. Remove `device_map`, or set `strategy: layer_split`."
            ),
            strategy=strategy,
        )
    if strategy == "fsdp" and (reason := why_not_fsdp(config.model_dump())) is not None:
        about = next((key for key in ("quantization", "torch_compile") if getattr(config, key)), "strategy")
        raise UntrainableError(reason.template, about=about, **reason.values)


def _on_gpus(memory: Memory, targets: Sequence[Target], count: int, options: Options | None) -> list[DevicePlan]:
    """All targets; `count` of them have a process: those where it fits best, of these the fastest, then the emptiest."""
    units = range(memory.num_units)
    gathered = memory.gathered_bytes(units) if isinstance(memory, ShardedMemory) else 0
    usable = [index for index in usable_targets(targets, options or Options()) if not targets[index].is_cpu]
    planned = {index: replace(device_plan(memory, targets[index], units), gathered_bytes=gathered) for index in usable}

    def preference(index: int) -> tuple[int, float, int]:
        spec = targets[index].spec
        pace = spec.training_flops if spec else 0.0
        return ORDER.index(planned[index].verdict), -pace, -targets[index].capacity_bytes

    chosen = set(sorted(usable, key=preference)[:count])
    error = memory.profile.expected_error
    return [
        planned[index] if index in chosen else DevicePlan(target, (), (), EMPTY, error)
        for index, target in enumerate(targets)
    ]


def _on_host(memory: Memory, host: Target, count: int) -> DevicePlan:
    """All processes of a machine without a GPU, in the memory that they share."""
    one = device_plan(memory, host, range(memory.num_units))
    gathered = memory.gathered_bytes(one.units) if isinstance(memory, ShardedMemory) else 0
    together = Breakdown(**{name: count * size for name, size in vars(one.breakdown).items()})
    return replace(one, breakdown=together, gathered_bytes=count * gathered)


def _offloaded(memory: Memory, host: Target, count: int) -> DevicePlan:
    """The shares of all processes of this machine in host memory."""
    assert isinstance(memory, ShardedMemory)
    held = replace(EMPTY, weights=count * memory.share_bytes)
    return DevicePlan(host, (), (), held, memory.profile.expected_error)
