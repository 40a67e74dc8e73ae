"""Rules that hold the processes that a config asks for against this machine's GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lora_backend.config.findings import Finding
from lora_backend.config.fix_offers import remove
from lora_backend.config.patch import DELETE
from lora_backend.config.rules.example_facts import AMPERE
from lora_backend.config.rules.process_keys import OF_SEVERAL, is_placed
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, FactCheck, Facts, GpuFact
from lora_backend.i18n import N_, Plural

ONE_STEP = "batch_size: 1\ntarget_batch_size: 4"
"""Of the examples: a step with a micro-batch for each process."""

MORE_PROCESSES_THAN_GPUS = Rule(
    "more_processes_than_gpus",
    "warning",
    Plural(
        "`num_processes` is {processes}, but only {count} GPU is visible; each process needs one.",
        "`num_processes` is {processes}, but only {count} GPUs are visible; each process needs one.",
    ),
    N_("Set `num_processes: {count}`, or remove it to have one for each GPU."),
    broken=f"strategy: ddp\nnum_processes: 4\n{ONE_STEP}",
    fixed=f"strategy: ddp\nnum_processes: 2\n{ONE_STEP}",
    facts=Facts(gpus=(AMPERE, AMPERE)),
)

TOO_FEW_GPUS = Rule(
    "too_few_gpus",
    "warning",
    N_("`strategy: {strategy}` needs two or more GPUs, but only one is visible."),
    N_("Set `strategy: single`."),
    broken=f"strategy: fsdp\n{ONE_STEP}",
    fixed=f"strategy: fsdp\n{ONE_STEP}",
    facts=Facts(gpus=(AMPERE,)),
    fixed_facts=Facts(gpus=(AMPERE, AMPERE)),
)

PROCESSES_ON_CPU = Rule(
    "processes_on_cpu",
    "warning",
    N_(
        "`strategy: {strategy}` starts one process for each GPU, but this machine has none; on the CPU `num_processes` says how many share its cores."
    ),
    N_("Set `num_processes: 2`, or `strategy: single`."),
    broken=f"strategy: fsdp\n{ONE_STEP}",
    fixed=f"strategy: fsdp\nnum_processes: 2\n{ONE_STEP}",
    facts=Facts(gpus=()),
)


def _enough(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    """A process has a GPU of its own; on a CPU they share its cores, where `num_processes` asks for them."""
    if facts.gpus is None or not config.has_good("strategy", "num_processes", "device_map", "use_balanced_device_map"):
        return
    strategy, asked, count = config.get("strategy"), config.get("num_processes"), len(facts.gpus)
    if strategy not in (*OF_SEVERAL, "auto") or is_placed(config):
        return
    said, alone = {"strategy": strategy}, config.change({"strategy": "single"})
    if facts.gpus and (asked or 1) > max(count, 1) and count > 1:
        fewer = config.change({"num_processes": count})
        yield MORE_PROCESSES_THAN_GPUS.found(
            config, "num_processes", {"processes": asked, "count": count}, fewer, remove("num_processes")
        )
    elif count == 1 and (asked or 1) > 1:
        yield MORE_PROCESSES_THAN_GPUS.found(
            config,
            "num_processes",
            {"processes": asked, "count": count},
            config.change({"num_processes": DELETE, **({} if strategy == "auto" else {"strategy": "single"})}),
            remedy=N_("Remove `num_processes`.") if strategy == "auto" else N_("Set `strategy: single`."),
        )
    elif strategy in OF_SEVERAL and asked is None and count == 1:
        yield TOO_FEW_GPUS.found(config, "strategy", said, alone)
    elif strategy in OF_SEVERAL and asked is None and count == 0:
        yield PROCESSES_ON_CPU.found(config, "strategy", said, config.change({"num_processes": 2}), alone)


UNEQUAL_GPUS = Rule(
    "unequal_gpus",
    "warning",
    N_("Every step waits for the slowest GPU: {slow} computes at {percent}% of the rate of {fast}."),
    N_("Keep it, or set `num_processes` and CUDA_VISIBLE_DEVICES so that only equal GPUs train together."),
    broken=f"strategy: ddp\n{ONE_STEP}",
    fixed=f"strategy: ddp\n{ONE_STEP}",
    facts=Facts(gpus=(GpuFact("RTX 4090", (8, 9), 165.2e12), GpuFact("RTX 3090", (8, 6), 71e12))),
    fixed_facts=Facts(gpus=(AMPERE, AMPERE)),
)


def _pace(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    if not facts.gpus or not config.has_good("strategy", "num_processes") or config.get("strategy") not in OF_SEVERAL:
        return
    training = facts.gpus[: config.get("num_processes")]
    names = list(dict.fromkeys(gpu.name for gpu in training))
    if ends := slowest_and_fastest(training):
        slow, fast = ends
        share = (slow.training_flops or 0.0) / (fast.training_flops or 1.0)
        said = {"slow": slow.name, "fast": fast.name, "percent": f"{100 * share:.0f}"}
        yield UNEQUAL_GPUS.found(config, "strategy", said)
    elif len(names) > 1 and not all(gpu.training_flops for gpu in training):
        unknown = N_("Every step waits for the slowest GPU, and these are unequal: {names}.")
        yield UNEQUAL_GPUS.found(config, "strategy", {"names": ", ".join(names)}, sentence=unknown)


def slowest_and_fastest(gpus: Sequence[GpuFact]) -> tuple[GpuFact, GpuFact] | None:
    """Of GPUs that train together, by their vendors' figures; None where all are as fast, or one has no figure."""
    if not all(gpu.training_flops for gpu in gpus):
        return None
    slow, fast = (pick(gpus, key=lambda gpu: gpu.training_flops or 0.0) for pick in (min, max))
    return (slow, fast) if slow.training_flops != fast.training_flops else None


RULES = (MORE_PROCESSES_THAN_GPUS, TOO_FEW_GPUS, PROCESSES_ON_CPU, UNEQUAL_GPUS)
CHECKS: tuple[FactCheck, ...] = (_enough, _pace)
