"""Rules about devices and number formats: maps, balancing, quantization, attention kernels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lora_backend.config.findings import Finding, Fix, shorten
from lora_backend.config.fix_offers import remove
from lora_backend.config.patch import DELETE, Patch
from lora_backend.config.rules.base import ConfigView, KeyRule
from lora_backend.config.schema import KEYS
from lora_backend.i18n import N_, Message


def _balancing(config: ConfigView) -> Iterator[Finding]:
    """A map in the config is never planned anew; what steers the planner says nothing without it."""
    if not config.has_good("device_map", "use_balanced_device_map"):
        return
    if config.get("use_balanced_device_map") and config.get("device_map") is not None:
        yield config.finding(
            "warning",
            "device_map_wins",
            "use_balanced_device_map",
            Message(N_("`device_map` is set, so it is used as it is and `use_balanced_device_map` has no effect.")),
            Message(N_("Remove one of the two.")),
            remove("use_balanced_device_map"),
            Fix(
                Patch({"device_map": DELETE}),
                Message(N_("Remove `device_map`: the layers are placed when the run starts")),
            ),
        )
    elif not config.get("use_balanced_device_map"):
        for key in ("force_balance", "exclude_cpu", "min_memory_gb"):
            if key not in config.invalid and config.get(key) != KEYS[key].default:
                yield config.finding(
                    "warning",
                    "no_balancing",
                    key,
                    Message(N_("`{key}` has no effect without `use_balanced_device_map`."), {"key": key}),
                    Message(N_("Set `use_balanced_device_map: true`, or remove `{key}`."), {"key": key}),
                    config.change({"use_balanced_device_map": True}) if config.get("device_map") is None else None,
                    remove(key),
                )


def _quantization(config: ConfigView) -> Iterator[Finding]:
    """What PEFT and transformers refuse of a base model in 4 or 8 bits (tried, on their CPU backend)."""
    if not config.has_good("quantization") or config.get("quantization") is None:
        return
    values = {"quantization": config.get("quantization"), "start": shorten(config.get("init_lora_weights"))}
    if config.has_good("init_lora_weights") and config.get("init_lora_weights") in ("pissa", "orthogonal"):
        yield config.finding(
            "error",
            "start_of_quantized",
            "init_lora_weights",
            Message(
                N_(
                    "`init_lora_weights: {start}` needs whole weights, which `quantization: {quantization}` takes away."
                ),
                values,
            ),
            Message(N_("Set `init_lora_weights: true`, or remove `quantization`.")),
            config.change({"init_lora_weights": True}),
            remove("quantization"),
        )
    places = config.get("device_map") if config.has_good("device_map") else None
    offloaded = {str(place) for place in places.values()} & {"cpu", "disk"} if isinstance(places, Mapping) else set()
    if isinstance(places, Mapping) and offloaded and set(places.values()) != {"cpu"}:
        yield config.finding(
            "error",
            "quantized_offload",
            "device_map",
            Message(
                N_("`device_map` puts modules on {places}, where `quantization: {quantization}` cannot load them."),
                {**values, "places": ", ".join(sorted(offloaded))},
            ),
            Message(N_("Put every module on a GPU, or all of them on the CPU.")),
        )


def _flash(config: ConfigView) -> Iterator[Finding]:
    """FlashAttention's kernels take fp16 and bf16 only (its README)."""
    if not config.has_good("attn_implementation", "precision"):
        return
    kernel = config.get("attn_implementation") or ""
    if "flash_attention" in kernel and config.get("precision") == "fp32":
        yield config.finding(
            "warning",
            "flash_in_fp32",
            "attn_implementation",
            Message(N_("`{kernel}` computes in fp16 and bf16 only, but `precision` is fp32."), {"kernel": kernel}),
            Message(N_("Set `precision: auto`, or `attn_implementation: sdpa`.")),
            config.change({"attn_implementation": "sdpa"}),
            config.change({"precision": "auto"}),
        )


RULES: tuple[KeyRule, ...] = (_balancing, _quantization, _flash)
