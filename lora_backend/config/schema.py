"""The one schema: every key of a training config with its type, bounds, default, unit and one line of help.

Form, validation, diff, template and documentation are made from it; no key is written down a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lora_backend.config.options import Attention, HubKernel, Optimizer, Scheduler
from lora_backend.i18n import N_

GROUPS = {
    "model": N_("Model and data"),
    "devices": N_("Devices"),
    "adapter": N_("Adapter"),
    "training": N_("Training"),
    "evaluation": N_("Evaluation"),
    "saving": N_("Saving and logging"),
    "checks": N_("Checks"),
}
"""Group id → title, in the order in which form and template show them."""

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=False)]
Name = Annotated[str, StringConstraints(pattern=r"^[^/\\.\x00][^/\\\x00]*$", max_length=100)]
"""One component of a path (so no slash and no leading dot): it names a folder below `output_dir`."""
Index = Annotated[int, Field(ge=0)]
Rank = Annotated[int, Field(ge=1, le=65536)]
Positive = Annotated[int | float, Field(gt=0)]


def _key(
    default: Any, help_text: str, *, group: str, unit: str | None = None, common: bool = False, **bounds: Any
) -> Any:
    """One key: `common` ones stand in the short form; `unit` is a word of the field (steps, tokens, GiB)."""
    extra: dict[str, Any] = {"group": group, "unit": unit, "common": common}
    return Field(default, description=help_text, json_schema_extra=extra, **bounds)


class TrainingConfig(BaseModel):
    """A LoRA training run. Names follow transformers, TRL and PEFT, or the tool that this grew out of."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    model_name: Text = _key(
        ..., N_("The base model: a local folder or the id of a model in the hub's cache."), group="model", common=True
    )
    dataset: Text | None = _key(
        None,
        N_("Training data: a JSONL file whose rows hold `messages`, or `prompt` and `completion`."),
        group="model",
        common=True,
    )
    max_length: int = _key(
        1024, N_("Longer rows are cut off at this many tokens."), group="model", unit=N_("tokens"), common=True, ge=2
    )
    attn_implementation: Attention | HubKernel | None = _key(
        None, N_("Attention kernel, by its name in transformers (sdpa, eager, flash_attention_2)."), group="model"
    )
    quantization: Literal["nf4", "int8"] | None = _key(
        None,
        N_(
            "Loads the base model's linear layers in 4 bits (nf4) or 8 bits (int8) through bitsandbytes. Unset: as `precision` says."
        ),
        group="model",
    )

    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential", "cpu"] | dict[str, int | str] | None = _key(
        None,
        N_("Where modules live: a word of accelerate's, or a map of module to device. Unset: one device."),
        group="devices",
    )
    use_balanced_device_map: bool = _key(
        False,
        N_("Spreads the blocks over the GPUs so that the fullest one is as free as can be."),
        group="devices",
    )
    force_balance: bool = _key(
        False,
        N_("Uses every GPU, even with less than min_memory_gb free, and stops where that cannot be done."),
        group="devices",
    )
    exclude_cpu: bool = _key(
        True,
        N_("Keeps every block on a GPU. False: what fits on none lives in host memory, where it does not train."),
        group="devices",
    )
    min_memory_gb: float = _key(
        2.0, N_("A GPU with less free memory than this is left out."), group="devices", unit="GiB", ge=0
    )

    r: Rank = _key(16, N_("Rank of the adapter's matrices."), group="adapter", common=True)
    alpha: Positive = _key(
        32, N_("Scale of the adapter; its output is multiplied by alpha / r."), group="adapter", common=True
    )
    target_modules: Text | list[Text] = _key(
        "all-linear",
        N_("Modules that get an adapter: a list of name endings, `all-linear`, or a regular expression."),
        group="adapter",
        common=True,
    )
    target_layers: list[Index] | None = _key(
        None, N_("Blocks that get an adapter, counted from 0. Unset: all of them."), group="adapter", common=True
    )
    lora_dropout: float = _key(
        0.0,
        N_("Share of the adapter's input that is dropped at random while training."),
        group="adapter",
        common=True,
        ge=0,
        lt=1,
    )
    rank_pattern: dict[str, Rank] | None = _key(
        None,
        N_("Ranks for single modules: name or regular expression to rank; the first match counts."),
        group="adapter",
    )
    alpha_pattern: dict[str, Positive] | None = _key(None, N_("Like rank_pattern, for alpha."), group="adapter")
    modules_to_save: list[Text] | None = _key(
        None, N_("Modules trained and saved whole beside the adapter, in fp32."), group="adapter"
    )
    bias: Literal["none", "all", "lora_only"] = _key("none", N_("Which biases are trained."), group="adapter")
    use_rslora: bool = _key(False, N_("Scale by alpha / √r instead of alpha / r."), group="adapter")
    use_dora: bool = _key(False, N_("Weight-decomposed LoRA: slower, sometimes better at low rank."), group="adapter")
    init_lora_weights: bool | Literal["gaussian", "pissa", "olora", "orthogonal"] = _key(
        True, N_("How the adapter is initialised, by its name in PEFT. True: A random, B zero."), group="adapter"
    )

    num_epochs: Positive = _key(
        3, N_("How often training goes through the data."), group="training", unit=N_("epochs"), common=True
    )
    max_steps: int | None = _key(
        None,
        N_("Ends training after this many optimizer steps, whatever num_epochs says."),
        group="training",
        unit=N_("steps"),
        ge=1,
    )
    learning_rate: Positive = _key(1e-4, N_("Peak learning rate."), group="training", common=True, le=1)
    lr_scheduler_type: Scheduler = _key("linear", N_("How the learning rate falls."), group="training", common=True)
    warmup_ratio: float = _key(
        0.0, N_("Share of all steps during which the learning rate rises from zero."), group="training", ge=0, lt=1
    )
    batch_size: int = _key(4, N_("Rows per forward pass."), group="training", unit=N_("rows"), common=True, ge=1)
    target_batch_size: int | None = _key(
        None,
        N_("Rows per optimizer step; reached by accumulating gradients. Unset: batch_size."),
        group="training",
        unit=N_("rows"),
        common=True,
        ge=1,
    )
    precision: Literal["auto", "fp32", "fp16", "bf16"] = _key(
        "auto",
        N_("Number format. auto: bf16 where the device computes it, else fp16 on a GPU, else fp32."),
        group="training",
        common=True,
    )
    gradient_checkpointing: bool = _key(
        False,
        N_("Saves memory by computing activations twice; a step takes up to half as long again."),
        group="training",
        common=True,
    )
    loss_type: Literal["nll", "chunked_nll"] = _key(
        "nll",
        N_("How the loss is computed. chunked_nll: the same loss, without ever holding the logits of all tokens."),
        group="training",
    )
    optim: Optimizer = _key("adamw_torch", N_("Optimizer, by its name in transformers."), group="training")
    weight_decay: float = _key(0.0, N_("Decay of the adapter's weights."), group="training", ge=0, le=1)
    max_grad_norm: float = _key(
        1.0, N_("Gradients are scaled down to this norm; 0 leaves them."), group="training", ge=0
    )
    max_time: Positive | None = _key(
        None,
        N_("Saves a checkpoint and stops within this many hours of each start; the run can be resumed."),
        group="training",
        unit=N_("hours"),
    )
    deterministic: bool = _key(
        False,
        N_("Allows only algorithms that always round alike: on GPUs slower, but a resumed run is then bit-identical."),
        group="training",
    )
    seed: int = _key(42, N_("Seed of every random choice."), group="training", common=True, ge=0, lt=2**32)

    val_size: float = _key(
        0.0, N_("Share of the rows that is held back for evaluation."), group="evaluation", common=True, ge=0, lt=1
    )
    eval_strategy: Literal["no", "steps", "epoch"] = _key(
        "no", N_("When the held-back rows are evaluated."), group="evaluation"
    )
    eval_steps: int | None = _key(
        None, N_("Steps between evaluations, for `eval_strategy: steps`."), group="evaluation", unit=N_("steps"), ge=1
    )
    questions: Text | None = _key(
        None,
        N_("JSONL of questions that the base model and the adapter both answer at the end; see the documentation."),
        group="evaluation",
    )

    output_dir: Text = _key(
        "adapters",
        N_("Where finished adapters are published; a relative path counts from the workspace."),
        group="saving",
    )
    pkg: Name | None = _key(None, N_("First folder below output_dir."), group="saving")
    version: Name | None = _key(None, N_("Second folder below output_dir."), group="saving")
    knowledge_type: Name | None = _key(None, N_("Third folder below output_dir."), group="saving")
    overwrite: bool = _key(
        False, N_("Replace an adapter that is already published there; the old one goes to the bin."), group="saving"
    )
    save_steps: int = _key(500, N_("Steps between checkpoints."), group="saving", unit=N_("steps"), ge=1)
    save_total_limit: int | None = _key(
        3,
        N_(
            "How many of the last checkpoints are kept, at least two, beside the one of the lowest evaluation loss. Unset: all. The adapter of the last step is published, whichever was best."
        ),
        group="saving",
        ge=1,
    )
    logging_steps: int = _key(10, N_("Steps between two points of the curves."), group="saving", unit=N_("steps"), ge=1)

    check_r_consistency: bool = _key(
        False,
        N_("Warn when a LoRA layer of the loaded model does not have the expected rank."),
        group="checks",
        common=True,
    )
    strict_r_check: bool = _key(
        False,
        N_("Stop before the first step when a layer does not have the expected rank."),
        group="checks",
        common=True,
    )


@dataclass(frozen=True)
class Key:
    """What form, template and documentation show of one key."""

    name: str
    default: Any
    """`REQUIRED` where there is none."""
    help: str
    """English template; translate it for people."""
    group: str
    unit: str | None
    common: bool
    annotation: Any
    info: FieldInfo


REQUIRED = PydanticUndefined


def _describe(name: str, info: FieldInfo) -> Key:
    extra: Mapping[str, Any] = info.json_schema_extra  # type: ignore[assignment]  # _key always gives a dict
    default = REQUIRED if info.is_required() else info.default
    return Key(
        name, default, info.description or "", extra["group"], extra["unit"], extra["common"], info.annotation, info
    )


KEYS: dict[str, Key] = {name: _describe(name, info) for name, info in TrainingConfig.model_fields.items()}
"""Every key by name, in the order of the schema."""


def default_config() -> dict[str, Any]:
    """Key → default for every key that has one."""
    return {key.name: key.default for key in KEYS.values() if key.default is not REQUIRED}
