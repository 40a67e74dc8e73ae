"""Rules that hold the config against this machine: its GPUs, and what is installed. A config may be meant for another
one, so what this one cannot do is a warning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lora_backend.config.findings import Finding, Fix
from lora_backend.config.fix_offers import remove
from lora_backend.config.patch import DELETE, Patch
from lora_backend.config.rules.example_facts import AMPERE, TURING
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, FactCheck, Facts
from lora_backend.i18n import N_, Message, Plural

BF16_SINCE = (8, 0)
"""CUDA compute capability of Ampere, the first with bf16 (NVIDIA, CUDA Programming Guide, arithmetic by capability)."""
KERNEL_SINCE = {
    "flash_attention_2": (8, 0),
    "flash_attention_3": (8, 0),
    "flash_attention_4": (9, 0),
    "flex_attention": (7, 0),
}
"""Attention that trains on GPUs alone → compute capability of the first that run it (FlashAttention's README, transformers;
flex_attention: torch has no backward of it on the CPU, and compiles it by Triton, which begins with Volta)."""


FP16_WITHOUT_GPU = Rule(
    "fp16_without_gpu",
    "warning",
    N_("`precision: fp16` trains on NVIDIA GPUs only, and this machine has none."),
    N_("Set `precision: auto`."),
    broken="precision: fp16",
    fixed="precision: fp16",
    facts=Facts(gpus=()),
    fixed_facts=Facts(gpus=(TURING,)),
)

BF16_ON_OLD_GPU = Rule(
    "bf16_on_old_gpu",
    "warning",
    N_("`precision: bf16` is not supported by {names}."),
    N_("Set `precision: auto`, which uses fp16 there."),
    broken="precision: bf16",
    fixed="precision: bf16",
    facts=Facts(gpus=(TURING,)),
    fixed_facts=Facts(gpus=(AMPERE,)),
)


def _formats(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    if facts.gpus is None or not config.has_good("precision"):
        return
    precision = config.get("precision")
    old = [gpu.name for gpu in facts.gpus if gpu.compute_capability < BF16_SINCE]
    if precision == "fp16" and not facts.gpus:
        yield FP16_WITHOUT_GPU.found(config, "precision", None, config.change({"precision": "auto"}))
    elif precision == "bf16" and old:
        yield BF16_ON_OLD_GPU.found(
            config, "precision", {"names": ", ".join(dict.fromkeys(old))}, config.change({"precision": "auto"})
        )


QUANTIZATION_WITHOUT_GPU = Rule(
    "quantization_without_gpu",
    "warning",
    N_(
        "`quantization: {quantization}` is made for NVIDIA GPUs; this machine has none, and on the CPU it is very slow."
    ),
    N_("Remove `quantization`, or launch on a machine with a GPU."),
    broken="quantization: nf4",
    fixed="quantization: nf4",
    facts=Facts(gpus=()),
    fixed_facts=Facts(gpus=(AMPERE,)),
)


def _quantized(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    if facts.gpus == () and config.has_good("quantization") and config.get("quantization"):
        values = {"quantization": config.get("quantization")}
        yield QUANTIZATION_WITHOUT_GPU.found(config, "quantization", values, remove("quantization"))


LIBRARY_MISSING = Rule(
    "library_missing",
    "warning",
    N_("`{key}: {word}` needs the package {package}, which is not installed here."),
    N_("Run `pip install '{package}'`, or remove `{key}`."),
    broken="optim: grokadamw",
    fixed="optim: adamw_torch",
    facts=Facts(missing_packages={"optim": "grokadamw"}),
    fixed_facts=Facts(),
)


def _libraries(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    for key, package in facts.missing_packages.items():
        if key in config.values and config.has_good(key):
            said = {"key": key, "word": config.get(key), "package": package}
            yield LIBRARY_MISSING.found(config, key, said, remove(key))


KERNEL_ON_OLD_GPU = Rule(
    "kernel_on_old_gpu",
    "warning",
    N_("`{kernel}` does not run on {names}."),
    N_("Remove `attn_implementation`."),
    broken="attn_implementation: flash_attention_2",
    fixed="attn_implementation: flash_attention_2",
    facts=Facts(gpus=(TURING,)),
    fixed_facts=Facts(gpus=(AMPERE,)),
)

KERNEL_WITHOUT_GPU = Rule(
    "kernel_without_gpu",
    "warning",
    N_("`{kernel}` trains on GPUs only, and this machine has none."),
    N_("Remove `attn_implementation`."),
    broken="attn_implementation: flash_attention_2",
    fixed="attn_implementation: sdpa",
    facts=Facts(gpus=()),
)


def _kernels(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    kernel = config.get("attn_implementation") if config.has_good("attn_implementation") else None
    if kernel not in KERNEL_SINCE or facts.gpus is None:
        return
    said = {"kernel": kernel, "names": ", ".join(dict.fromkeys(gpu.name for gpu in facts.gpus))}
    if facts.gpus and all(gpu.compute_capability < KERNEL_SINCE[kernel] for gpu in facts.gpus):
        yield KERNEL_ON_OLD_GPU.found(config, "attn_implementation", said, remove("attn_implementation"))
    elif not facts.gpus or _is_on_cpu(config):
        on_cpu = N_("`{kernel}` trains on GPUs only, but `device_map` puts the model on the CPU.")
        yield KERNEL_WITHOUT_GPU.found(
            config, "attn_implementation", said, remove("attn_implementation"), sentence=on_cpu if facts.gpus else None
        )


def _is_on_cpu(config: ConfigView) -> bool:
    places = config.get("device_map") if config.has_good("device_map") else None
    return places == "cpu" or (isinstance(places, Mapping) and set(places.values()) == {"cpu"})


NO_SUCH_DEVICE = Rule(
    "no_such_device",
    "warning",
    Plural(
        "`device_map` names GPU {devices}, but this machine has {count} GPU, counted from 0.",
        "`device_map` names GPU {devices}, but this machine has {count} GPUs, counted from 0.",
    ),
    N_(
        "Remove `device_map` and set `use_balanced_device_map: true` to place the layers on this machine's GPUs at launch."
    ),
    broken="device_map: {model: 1}",
    fixed="device_map: {model: 0}",
    facts=Facts(gpus=(AMPERE,)),
)


def _absent(config: ConfigView, absent: list[int], count: int) -> Finding:
    """A map made for another machine: one for this machine's GPUs, or none where it has none."""
    values = {"devices": ", ".join(map(str, absent)), "count": count}
    if count:
        anew = N_("Remove the map, and place the layers on this machine's GPUs")
        fix = Fix(Patch({"device_map": DELETE, "use_balanced_device_map": True}), Message(anew))
        return NO_SUCH_DEVICE.found(config, "device_map", values, fix)
    return NO_SUCH_DEVICE.found(
        config,
        "device_map",
        values,
        Fix(Patch({"device_map": DELETE}), Message(N_("Remove `device_map`"))),
        sentence=N_("`device_map` names GPU {devices}, but this machine has no GPU."),
        remedy=N_("Start it on a machine with those GPUs, or remove `device_map` to train on the CPU."),
    )


MORE_GPUS_THAN_BLOCKS = Rule(
    "more_gpus_than_blocks",
    "warning",
    Plural(
        "`force_balance` gives every GPU a block, but there are {gpus} GPUs and only {count} block.",
        "`force_balance` gives every GPU a block, but there are {gpus} GPUs and only {count} blocks.",
    ),
    N_("Set `force_balance: false`."),
    broken="use_balanced_device_map: true\nforce_balance: true",
    fixed="use_balanced_device_map: true",
    facts=Facts(num_blocks=2, gpus=(AMPERE,) * 3),
)


def _devices(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    places = config.get("device_map") if config.has_good("device_map") else None
    if facts.gpus is not None and isinstance(places, Mapping):
        absent = sorted({place for place in places.values() if type(place) is int and place >= len(facts.gpus)})
        if absent:
            yield _absent(config, absent, len(facts.gpus))
    if (
        facts.gpus
        and facts.num_blocks
        and config.has_good("force_balance")
        and config.get("force_balance")
        and len(facts.gpus) > facts.num_blocks
    ):
        values = {"gpus": len(facts.gpus), "count": facts.num_blocks}
        yield MORE_GPUS_THAN_BLOCKS.found(config, "force_balance", values, remove("force_balance"))


RULES = (
    FP16_WITHOUT_GPU,
    BF16_ON_OLD_GPU,
    QUANTIZATION_WITHOUT_GPU,
    LIBRARY_MISSING,
    KERNEL_ON_OLD_GPU,
    KERNEL_WITHOUT_GPU,
    NO_SUCH_DEVICE,
    MORE_GPUS_THAN_BLOCKS,
)
CHECKS: tuple[FactCheck, ...] = (_formats, _quantized, _libraries, _kernels, _devices)
