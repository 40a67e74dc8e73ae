"""Rules about devices and number formats: maps, balancing, quantization, attention kernels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lora_backend.config.findings import Finding, Fix, shorten
from lora_backend.config.fix_offers import remove
from lora_backend.config.patch import DELETE, Patch
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, KeyCheck
from lora_backend.config.schema import KEYS
from lora_backend.i18n import N_, Message

DEVICE_MAP_WINS = Rule(
    "device_map_wins",
    "warning",
    N_("`device_map` is set, so it is used as it is and `use_balanced_device_map` has no effect."),
    N_("Remove one of the two."),
    broken="use_balanced_device_map: true\ndevice_map: auto",
    fixed="use_balanced_device_map: true",
)

NO_BALANCING = Rule(
    "no_balancing",
    "warning",
    N_("`{key}` has no effect without `use_balanced_device_map`."),
    N_("Set `use_balanced_device_map: true`, or remove `{key}`."),
    broken="force_balance: true",
    fixed="force_balance: true\nuse_balanced_device_map: true",
)


def _balancing(config: ConfigView) -> Iterator[Finding]:
    """A map in the config is never planned anew; what steers the planner says nothing without it."""
    if not config.has_good("device_map", "use_balanced_device_map", "strategy"):
        return
    strategy = config.get("strategy")
    if config.get("use_balanced_device_map") and config.get("device_map") is not None:
        yield DEVICE_MAP_WINS.found(
            config,
            "use_balanced_device_map",
            None,
            remove("use_balanced_device_map"),
            Fix(
                Patch({"device_map": DELETE}),
                Message(N_("Remove `device_map`: the layers are placed when the run starts")),
            ),
        )
    elif not config.get("use_balanced_device_map") and (
        strategy != "layer_split" or config.get("device_map") is not None
    ):
        has_map = config.get("device_map") is not None
        may_balance = not has_map and strategy == "auto"
        # What a GPU must have is asked of each that is chosen; where a map names them nothing is.
        for key in ("force_balance", "exclude_cpu", *(["min_memory_gb"] if has_map else [])):
            if key not in config.invalid and config.get(key) != KEYS[key].default:
                yield NO_BALANCING.found(
                    config,
                    key,
                    {"key": key},
                    config.change({"use_balanced_device_map": True}) if may_balance else None,
                    remove(key),
                )


START_OF_QUANTIZED = Rule(
    "start_of_quantized",
    "error",
    N_("`init_lora_weights: {start}` needs unquantized weights, but `quantization: {quantization}` is set."),
    N_("Set `init_lora_weights: true`, or remove `quantization`."),
    broken="quantization: nf4\ninit_lora_weights: pissa",
    fixed="quantization: nf4\ninit_lora_weights: olora",
)

QUANTIZED_OFFLOAD = Rule(
    "quantized_offload",
    "error",
    N_("`device_map` puts modules on {places}, where `quantization: {quantization}` cannot load them."),
    N_("Put every module on a GPU, or all of them on the CPU."),
    broken="quantization: nf4\ndevice_map: {model: 0, lm_head: cpu}",
    fixed="quantization: nf4\ndevice_map: {model: cpu, lm_head: cpu}",
)


def _quantization(config: ConfigView) -> Iterator[Finding]:
    """What PEFT and transformers refuse of a base model in 4 or 8 bits (tried, on their CPU backend)."""
    if not config.has_good("quantization") or config.get("quantization") is None:
        return
    values = {"quantization": config.get("quantization"), "start": shorten(config.get("init_lora_weights"))}
    if config.has_good("init_lora_weights") and config.get("init_lora_weights") in ("pissa", "orthogonal"):
        yield START_OF_QUANTIZED.found(
            config, "init_lora_weights", values, config.change({"init_lora_weights": True}), remove("quantization")
        )
    places = config.get("device_map") if config.has_good("device_map") else None
    offloaded = {str(place) for place in places.values()} & {"cpu", "disk"} if isinstance(places, Mapping) else set()
    if isinstance(places, Mapping) and offloaded and set(places.values()) != {"cpu"}:
        yield QUANTIZED_OFFLOAD.found(config, "device_map", {**values, "places": ", ".join(sorted(offloaded))})


FLASH_IN_FP32 = Rule(
    "flash_in_fp32",
    "warning",
    N_("`{kernel}` computes in fp16 and bf16 only, but `precision` is fp32."),
    N_("Set `precision: auto`, or `attn_implementation: sdpa`."),
    broken="attn_implementation: flash_attention_2\nprecision: fp32",
    fixed="attn_implementation: flash_attention_2\nprecision: bf16",
)


def _flash(config: ConfigView) -> Iterator[Finding]:
    """FlashAttention's kernels take fp16 and bf16 only (its README)."""
    if not config.has_good("attn_implementation", "precision"):
        return
    kernel = config.get("attn_implementation") or ""
    if "flash_attention" in kernel and config.get("precision") == "fp32":
        yield FLASH_IN_FP32.found(
            config,
            "attn_implementation",
            {"kernel": kernel},
            config.change({"attn_implementation": "sdpa"}),
            config.change({"precision": "auto"}),
        )


RULES = (
    DEVICE_MAP_WINS,
    NO_BALANCING,
    START_OF_QUANTIZED,
    QUANTIZED_OFFLOAD,
    FLASH_IN_FP32,
)
CHECKS: tuple[KeyCheck, ...] = (_balancing, _quantization, _flash)
