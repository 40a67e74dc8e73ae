"""Rules that hold the config against this machine: its GPUs, its disk, its other runs. A config may be meant for
another one, so what this one cannot do is a warning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lora_backend.config.findings import Finding, Fix
from lora_backend.config.fix_offers import remove
from lora_backend.config.patch import DELETE, Patch
from lora_backend.config.rules.base import ConfigView, FactRule, Facts
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
CHECKPOINT_BYTES = 12
"""Of each trained parameter in a checkpoint: fp32 weight and AdamW's two fp32 states."""
_GIB = 2**30


def _formats(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    if facts.gpus is None or not config.has_good("precision"):
        return
    precision = config.get("precision")
    old = [gpu.name for gpu in facts.gpus if gpu.compute_capability < BF16_SINCE]
    if precision == "fp16" and not facts.gpus:
        yield config.finding(
            "warning",
            "fp16_without_gpu",
            "precision",
            Message(N_("`precision: fp16` trains on NVIDIA GPUs only, and this machine has none.")),
            Message(N_("Set `precision: auto`.")),
            config.change({"precision": "auto"}),
        )
    elif precision == "bf16" and old:
        yield config.finding(
            "warning",
            "bf16_on_old_gpu",
            "precision",
            Message(N_("`precision: bf16` is not computed by {names}."), {"names": ", ".join(dict.fromkeys(old))}),
            Message(N_("Set `precision: auto`, which takes fp16 there.")),
            config.change({"precision": "auto"}),
        )


def _quantized(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    if facts.gpus == () and config.has_good("quantization") and config.get("quantization"):
        values = {"quantization": config.get("quantization")}
        yield config.finding(
            "warning",
            "quantization_without_gpu",
            "quantization",
            Message(N_("`quantization: {quantization}` is made for NVIDIA GPUs; this machine has none, and on the CPU it is very slow."), values),
            Message(N_("Remove `quantization`, or launch on a machine with a GPU.")),
            remove("quantization"),
        )  # fmt: skip


def _libraries(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    for key, package in facts.missing_packages.items():
        if key in config.values and config.has_good(key):
            said = {"key": key, "word": config.get(key), "package": package}
            yield config.finding(
                "warning",
                "library_missing",
                key,
                Message(N_("`{key}: {word}` needs the package {package}, which is not installed here."), said),
                Message(N_("Run `pip install '{package}'`, or remove `{key}`."), said),
                remove(key),
            )


def _kernels(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    kernel = config.get("attn_implementation") if config.has_good("attn_implementation") else None
    if kernel not in KERNEL_SINCE or facts.gpus is None:
        return
    said = {"kernel": kernel, "names": ", ".join(dict.fromkeys(gpu.name for gpu in facts.gpus))}
    if facts.gpus and all(gpu.compute_capability < KERNEL_SINCE[kernel] for gpu in facts.gpus):
        yield config.finding(
            "warning",
            "kernel_on_old_gpu",
            "attn_implementation",
            Message(N_("`{kernel}` does not run on {names}."), said),
            Message(N_("Remove `attn_implementation`.")),
            remove("attn_implementation"),
        )
    elif not facts.gpus or _is_on_cpu(config):
        template = N_("`{kernel}` trains on GPUs only, and this machine has none.")
        if facts.gpus:
            template = N_("`{kernel}` trains on GPUs only, but `device_map` puts the model on the CPU.")
        yield config.finding(
            "warning",
            "kernel_without_gpu",
            "attn_implementation",
            Message(template, said),
            Message(N_("Remove `attn_implementation`.")),
            remove("attn_implementation"),
        )


def _is_on_cpu(config: ConfigView) -> bool:
    places = config.get("device_map") if config.has_good("device_map") else None
    return places == "cpu" or (isinstance(places, Mapping) and set(places.values()) == {"cpu"})


def _absent(config: ConfigView, absent: list[int], count: int) -> Finding:
    """A map made for another machine: one for this machine's GPUs, or none where it has none."""
    values = {"devices": ", ".join(map(str, absent)), "count": count}
    if count:
        said: str = Plural(
            "`device_map` names GPU {devices}, but this machine has {count} GPU, counted from 0.",
            "`device_map` names GPU {devices}, but this machine has {count} GPUs, counted from 0.",
        )
        remedy = N_("Remove `device_map` and set `use_balanced_device_map: true`: the start then places the layers on this machine's GPUs.")  # fmt: skip
        changes, label = Patch({"device_map": DELETE, "use_balanced_device_map": True}), N_("Remove the map, and place the layers on this machine's GPUs")  # fmt: skip
    else:
        said = N_("`device_map` names GPU {devices}, but this machine has no GPU.")
        remedy = N_("Start it on the machine with those GPUs, or remove `device_map` to train on the CPU.")
        changes, label = Patch({"device_map": DELETE}), N_("Remove `device_map`")
    return config.finding(
        "warning",
        "no_such_device",
        "device_map",
        Message(said, values),
        Message(remedy),
        Fix(changes, Message(label)),
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
        yield config.finding(
            "warning",
            "more_gpus_than_blocks",
            "force_balance",
            Message(Plural("`force_balance` gives every GPU a block, but there are {gpus} GPUs and {count} block.", "`force_balance` gives every GPU a block, but there are {gpus} GPUs and {count} blocks."), values),
            Message(N_("Set `force_balance: false`.")),
            remove("force_balance"),
        )  # fmt: skip


def _output(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    if facts.publication_forbidden:
        key, message = facts.publication_forbidden
        remedy = Message(N_("Change `{key}`."), {"key": key})
        yield config.finding("error", "publication_forbidden", key, message, remedy)
    if facts.publication_blocked_by:
        yield config.finding(
            "warning",
            "not_an_adapter",
            "version",
            Message(
                N_("{path} is not an adapter that Flightdeck published, so it is never replaced."),
                {"path": facts.publication_blocked_by},
            ),
            Message(N_("Choose another `version` or `output_dir`.")),
        )
    if facts.is_published and config.has_good("overwrite") and not config.get("overwrite"):
        yield config.finding(
            "warning",
            "already_published",
            "version",
            Message(N_("An adapter is already published under `pkg` and `version`, and `overwrite` is off.")),
            Message(N_("Set another `version`, or `overwrite: true`.")),
            Fix(
                Patch({"overwrite": True}),
                Message(N_("Set `overwrite: true`: the adapter that is published there is replaced")),
            ),
        )
    if facts.output_used_by:
        yield config.finding(
            "warning",
            "output_in_use",
            "version",
            Message(N_("Run {run} is under way and will publish its adapter to the same folder."), {"run": facts.output_used_by}),
            Message(N_("Set another `version`, or wait until that run has ended.")),
        )  # fmt: skip


def checkpoint_bytes(config: ConfigView, facts: Facts) -> float:
    """A checkpoint's adapter and optimizer states; 0 where the model's layers are not known."""
    if not config.has_good("r", "target_modules", "target_layers"):
        return 0.0
    targets, layers = config.get("target_modules"), config.get("target_layers")
    width = sum(
        width
        for ending, width in facts.linear_width.items()
        if not isinstance(targets, list) or any(target.rsplit(".", 1)[-1] == ending for target in targets)
    )
    share = len(set(layers)) / facts.num_blocks if layers and facts.num_blocks else 1.0
    return float(config.get("r") * width * min(share, 1.0) * CHECKPOINT_BYTES)


def _disk(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    """The adapter, and every checkpoint that is kept with the optimizer's states."""
    if facts.disk_free_bytes is None or not config.has_good("save_total_limit"):
        return
    limit, each_bytes = config.get("save_total_limit"), checkpoint_bytes(config, facts)
    # Without a limit at least three are likely; one more is there while the oldest is not yet gone.
    needed_bytes = round(each_bytes * ((limit or 3) + 1))
    if needed_bytes > facts.disk_free_bytes:
        values = {"needed": f"{needed_bytes / _GIB:.1f}", "free": f"{facts.disk_free_bytes / _GIB:.1f}"}
        yield config.finding(
            "warning",
            "disk_too_small",
            "save_total_limit",
            Message(N_("Checkpoints may take {needed} GiB, but the disk of the runs has only {free} GiB free."), values),
            Message(N_("Free some disk space, set `save_total_limit: 2`, or lower `r`.")),
            config.change({"save_total_limit": 2}) if 3 * each_bytes <= facts.disk_free_bytes else None,
        )  # fmt: skip


RULES: tuple[FactRule, ...] = (_formats, _quantized, _libraries, _kernels, _devices, _output, _disk)
