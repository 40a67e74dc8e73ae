"""The one schema: every key of a training config with its type, bounds, default, one line of help and its traits.

Form, check, diff, template, documentation, the question to the plan, what a resumed run may change, imports and exports
are made from it; no key is written down a second time (`key_queries`).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lora_backend.config.key_description import REQUIRED, Key, described
from lora_backend.config.key_traits import key
from lora_backend.config.key_values import DatasetShares, Index, Name, Positive, Rank, Text, Trackers
from lora_backend.config.options import (
    Attention,
    Batching,
    BestFigure,
    HubKernel,
    Optimizer,
    Scheduler,
    Strategy,
    Tracker,
    TrainOn,
    Truncation,
)
from lora_backend.data.forms import DataFormat
from lora_backend.i18n import N_

__all__ = ["GROUPS", "KEYS", "REQUIRED", "Key", "TrainingConfig", "default_config", "described"]

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


class TrainingConfig(BaseModel):
    """A LoRA training run. Names follow transformers, TRL and PEFT, or the tool that this grew out of."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    # A table: each key in a few lines, its traits in one.
    # fmt: off
    model_name: Text = key(..., N_("The base model: a local folder or the id of a model in the hub's cache."),
        group="model", common=True, on_resume="model", path="model", portable=False, affects={"memory"},
        foreign={"peft": "base_model_name_or_path", "trl": "model_name_or_path", "llamafactory": "model_name_or_path",
            "llamafactory_v1": "model", "unsloth": "model", "axolotl": "base_model"},
    )
    dataset: Text | None = key(None, N_("Training data: a file of rows (JSONL, JSON, CSV, TSV, Parquet, Arrow), a folder of them, or the id of a data set in the hub's cache."),
        group="model", common=True, on_resume="data", path="rows", portable=False,
    )
    datasets: DatasetShares | None = key(
        None, N_("Several data sets instead of `dataset`: each has a `path`, a `share` (1, the default: each row once per epoch; 0.5: one half of its rows in one epoch and the other half in the next; 2: each row twice) and, if it has several, a `split`."),
        group="model", on_resume="data", path="rows", portable=False, affects={"steps"},
    )
    data_format: DataFormat = key("auto", N_("Form of the rows. auto: detected from the first of them."),
        group="model", on_resume="data",
    )
    data_columns: dict[str, Text] | None = key(
        None, N_("For columns with other names: each part of the form, and its column (prompt: question_en)."),
        group="model", on_resume="data",
    )
    max_bad_rows: int = key(0, N_("Up to this many rows that cannot be trained on are left out; with more, training does not start."),
        group="model", unit=N_("rows"), ge=0, on_resume="data", affects={"steps"},
    )
    max_length: int = key(1024, N_("Longer rows are cut off at this many tokens."),
        group="model", common=True, unit=N_("tokens"), ge=2, on_resume="data", plans=True, affects={"memory"},
        foreign={"llamafactory": "cutoff_len", "llamafactory_v1": "cutoff_len", "unsloth": "training.max_seq_length",
            "axolotl": "sequence_len"},
    )
    truncation: Truncation = key(
        "cut_answer", N_("What happens to a row longer than max_length: drop leaves it out, cut_answer cuts its end, cut_prompt cuts the start of its prompt."),
        group="model", on_resume="data",
    )
    train_on: TrainOn = key(
        "all_answers", N_("What the model learns from a row: all_answers, last_answer, or everything (prompts and questions as well)."),
        group="model", on_resume="data",
    )
    attn_implementation: Attention | HubKernel | None = key(
        None, N_("Attention kernel, by its name in transformers (sdpa, eager, flash_attention_2)."),
        group="model", on_resume="same_sum", affects={"memory"}, foreign={"axolotl": "attn_implementation"},
    )
    quantization: Literal["nf4", "int8"] | None = key(
        None, N_("Loads the base model's linear layers in 4 bits (nf4) or 8 bits (int8) through bitsandbytes. Unset: as `precision` says."),
        group="model", on_resume="model", plans=True, affects={"memory"},
    )

    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential", "cpu"] | dict[str, int | str] | None = key(
        None, N_("Where modules go: one of accelerate's keywords, or a map of module to device. Unset: one device."),
        group="devices", on_resume="place", affects={"memory"}, foreign={"axolotl": "device_map"},
    )
    use_balanced_device_map: bool = key(False, N_("Spreads the blocks over the GPUs so that the busiest one has as much room as possible."),
        group="devices", on_resume="place", affects={"memory"},
    )
    force_balance: bool = key(False, N_("Uses every GPU, even with less than min_memory_gb free; stops if that is not possible."),
        group="devices", on_resume="place", plans=True, affects={"memory"},
    )
    exclude_cpu: bool = key(
        True, N_("Keeps every block on a GPU. False: blocks that fit on no GPU stay in host memory, where they do not train."),
        group="devices", on_resume="place", affects={"memory"},
    )
    min_memory_gb: float = key(2.0, N_("GPUs with less free memory than this are not used."),
        group="devices", unit="GiB", ge=0, on_resume="place", plans=True, affects={"memory"},
    )

    strategy: Strategy = key(
        "auto", N_("How GPUs share the work. single: only one works; layer_split: each holds some of the blocks; ddp: each holds the whole model and takes its share of a step's micro-batches; fsdp: the same, but each holds only a share of the weights. auto: the fastest that fits."),
        group="devices", on_resume="place", plans=True, affects={"memory"},
    )
    num_processes: int | None = key(
        None, N_("Processes of ddp and fsdp on each machine, one per GPU; on a CPU they share its cores. Unset: one for each GPU that a step has a micro-batch for."),
        group="devices", unit=N_("processes"), ge=1, le=64, on_resume="place", plans=True, affects={"memory"},
    )
    num_nodes: int = key(1, N_("Machines that train together, each with `num_processes` processes."),
        group="devices", unit=N_("machines"), ge=1, le=64, on_resume="place", plans=True, affects={"memory"},
    )
    fsdp_offload_params: bool = key(False, N_("fsdp: keeps weights in host memory and copies them to the GPU block by block; slower."),
        group="devices", on_resume="place", plans=True, affects={"memory"},
    )

    r: Rank = key(16, N_("Rank of the adapter's matrices."),
        group="adapter", common=True, on_resume="adapter", plans=True, affects={"memory", "ranks"},
        foreign={"peft": "r", "trl": "lora_r", "llamafactory": "lora_rank", "llamafactory_v1": "peft_config.r",
            "unsloth": "lora.lora_r", "axolotl": "lora_r"},
    )
    alpha: Positive = key(32, N_("Scale of the adapter; its output is multiplied by alpha / r."),
        group="adapter", common=True, on_resume="adapter",
        foreign={"peft": "lora_alpha", "trl": "lora_alpha", "llamafactory": "lora_alpha",
            "llamafactory_v1": "peft_config.lora_alpha", "unsloth": "lora.lora_alpha", "axolotl": "lora_alpha"},
    )
    target_modules: Text | list[Text] = key(
        "all-linear", N_("Modules that get an adapter: a list of name endings, `all-linear`, or a regular expression."),
        group="adapter", common=True, on_resume="adapter", plans=True, affects={"memory", "ranks"},
        foreign={"peft": "target_modules"},
    )
    target_layers: list[Index] | None = key(None, N_("Blocks that get an adapter, counted from 0. Unset: all of them."),
        group="adapter", common=True, on_resume="adapter", affects={"memory", "ranks"},
        foreign={"peft": "layers_to_transform", "axolotl": "peft_layers_to_transform"},
    )
    lora_dropout: float = key(0.0, N_("Share of the adapter's input that is randomly dropped during training."),
        group="adapter", common=True, ge=0, lt=1, on_resume="adapter", affects={"memory"},
        foreign={"peft": "lora_dropout", "trl": "lora_dropout", "llamafactory": "lora_dropout",
            "llamafactory_v1": "peft_config.lora_dropout", "unsloth": "lora.lora_dropout", "axolotl": "lora_dropout"},
    )
    rank_pattern: dict[str, Rank] | None = key(
        None, N_("Ranks for single modules: name or regular expression to rank; the first match counts."),
        group="adapter", on_resume="adapter", affects={"memory", "ranks"},
        foreign={"peft": "rank_pattern", "axolotl": "lora_rank_pattern"},
    )
    alpha_pattern: dict[str, Positive] | None = key(None, N_("Like rank_pattern, for alpha."),
        group="adapter", on_resume="adapter",
        foreign={"peft": "alpha_pattern", "axolotl": "lora_alpha_pattern"},
    )
    modules_to_save: list[Text] | None = key(None, N_("Modules trained and saved whole beside the adapter, in fp32."),
        group="adapter", on_resume="adapter", affects={"memory", "ranks"},
        foreign={"peft": "modules_to_save", "axolotl": "lora_modules_to_save"},
    )
    bias: Literal["none", "all", "lora_only"] = key("none", N_("Which biases are trained."),
        group="adapter", on_resume="adapter", affects={"memory"}, foreign={"peft": "bias"},
    )
    use_rslora: bool = key(False, N_("Scale by alpha / √r instead of alpha / r."),
        group="adapter", on_resume="adapter",
        foreign={"peft": "use_rslora", "trl": "use_rslora", "llamafactory": "use_rslora",
            "llamafactory_v1": "peft_config.use_rslora", "unsloth": "lora.use_rslora", "axolotl": "peft_use_rslora"},
    )
    use_dora: bool = key(False, N_("Weight-decomposed LoRA: slower, sometimes better at low rank."),
        group="adapter", on_resume="adapter", affects={"memory"},
        foreign={"peft": "use_dora", "trl": "use_dora", "llamafactory": "use_dora",
            "llamafactory_v1": "peft_config.use_dora", "unsloth": "lora.use_dora", "axolotl": "peft_use_dora"},
    )
    init_lora_weights: bool | Literal["gaussian", "pissa", "olora", "orthogonal"] = key(
        True, N_("How the adapter is initialised, by its name in PEFT. True: A random, B zero."),
        group="adapter", on_resume="adapter", foreign={"peft": "init_lora_weights", "axolotl": "peft_init_lora_weights"},
    )
    init_from_adapter: Text | None = key(
        None, N_("Adapter to start from: its folder, or its id in the hub's cache. Ranks, scaling, targets and base model must match this config."),
        group="adapter", on_resume="adapter", path="adapter", portable=False,
        foreign={"llamafactory": "adapter_name_or_path", "llamafactory_v1": "peft_config.adapter_name_or_path", "axolotl": "lora_model_dir"},
    )

    num_epochs: Positive = key(3, N_("How many times training goes through the data."),
        group="training", common=True, unit=N_("epochs"),
        on_resume="schedule", plans=True, affects={"steps"}, trainer="num_train_epochs",
        foreign={"llamafactory_v1": "num_train_epochs", "axolotl": "num_epochs"},
    )
    max_steps: int | None = key(None, N_("Ends training after this many optimizer steps, regardless of num_epochs."),
        group="training", unit=N_("steps"), ge=1, on_resume="schedule", affects={"steps"}, trainer="max_steps",
        foreign={"axolotl": "max_steps"},
    )
    learning_rate: Positive = key(1e-4, N_("Peak learning rate."),
        group="training", common=True, le=1, on_resume="schedule", trainer="learning_rate",
        foreign={"llamafactory_v1": "learning_rate", "unsloth": "training.learning_rate", "axolotl": "learning_rate"},
    )
    lr_scheduler_type: Scheduler = key("linear", N_("How the learning rate falls."),
        group="training", common=True, on_resume="schedule", trainer="lr_scheduler_type",
        foreign={"llamafactory_v1": "lr_scheduler_config.name", "unsloth": "training.lr_scheduler_type",
            "axolotl": "lr_scheduler"},
    )
    warmup_ratio: float = key(0.0, N_("Share of all steps during which the learning rate rises from zero."),
        group="training", ge=0, lt=1, on_resume="schedule",
        foreign={"llamafactory": "warmup_ratio", "axolotl": "warmup_ratio"},
    )
    batch_size: int = key(4, N_("Rows per forward pass."),
        group="training", common=True, unit=N_("rows"), ge=1,
        on_resume="same_rows", plans=True, affects={"memory", "steps"}, trainer="per_device_train_batch_size",
        foreign={"llamafactory_v1": "micro_batch_size", "unsloth": "training.batch_size",
            "axolotl": "micro_batch_size"},
    )
    target_batch_size: int | None = key(None, N_("Rows per optimizer step; reached by accumulating gradients. Unset: batch_size."),
        group="training", common=True, unit=N_("rows"), ge=1,
        on_resume="same_rows", plans=True, affects={"memory", "steps"},
    )
    precision: Literal["auto", "fp32", "fp16", "bf16"] = key(
        "auto", N_("Number format. auto: bf16 where the device supports it, else fp16 on a GPU, else fp32."),
        group="training", common=True, on_resume="model", plans=True, affects={"memory"},
    )
    gradient_checkpointing: bool = key(False, N_("Saves memory by computing activations twice; a step takes up to 50% longer."),
        group="training", common=True,
        on_resume="same_sum", plans=True, affects={"memory"}, trainer="gradient_checkpointing",
        foreign={"axolotl": "gradient_checkpointing"},
    )
    batching: Batching = key(
        "auto", N_("How rows share a forward pass. flat: one after another, without padding; padded: all as long as the longest; packed: lines of max_length tokens, filled with as many rows as fit, and batch_size counts lines. auto: flat where the model allows it, else padded."),
        group="training", on_resume="same_packing", plans=True, affects={"memory", "steps"},
    )
    fused_lora: bool = key(
        True, N_("Computes each LoRA layer as one function: the same sums, faster and in less memory. False: PEFT's own code."),
        group="training", on_resume="same_sum", affects={"memory"},
    )
    torch_compile: bool = key(
        False, N_("Compiles norms and feed-forward layers with torch.compile: steps are faster, but the start takes up to a minute longer."),
        group="training", on_resume="same_sum", trainer="torch_compile",
    )
    loss_type: Literal["auto", "nll", "chunked_nll"] = key(
        "auto", N_("How the loss is computed. nll: from the logits of all tokens; chunked_nll: the same loss from those of answers only, a tile of them at a time. auto: chunked_nll where the model allows it, else nll."),
        group="training", on_resume="same_sum", plans=True, affects={"memory"}, foreign={"trl": "loss_type"},
    )
    label_smoothing_factor: float = key(
        0.0, N_("Share of each target's weight that is spread over the whole vocabulary; evaluations are smoothed in the same way."),
        group="training", ge=0, lt=1, on_resume="from_here", trainer="label_smoothing_factor",
    )
    neftune_noise_alpha: Positive | None = key(
        None, N_("NEFTune: strength of the noise on the embeddings while training, usually 5 to 15; scaled by each row's own length, without padding. Unset: none."),
        group="training", on_resume="from_here", trainer="neftune_noise_alpha",
        foreign={"axolotl": "neftune_noise_alpha"},
    )
    optim: Optimizer = key("adamw_torch_fused", N_("Optimizer, by its name in transformers. adamw_torch_fused: adamw_torch in one kernel; where torch lacks it, adamw_torch."),
        group="training", on_resume="optimizer", plans=True, affects={"memory"}, trainer="optim",
        foreign={"axolotl": "optimizer"},
    )
    loraplus_lr_ratio: float | None = key(
        None, N_("LoRA+: the B matrices learn at this many times `learning_rate`, which is the rate of the A matrices; 16 is usual, with half the rate. Adapters of embeddings learn at 1e-6. Unset: one rate for all."),
        group="training", ge=1, on_resume="optimizer",
        foreign={"llamafactory": "loraplus_lr_ratio", "axolotl": "loraplus_lr_ratio"},
    )
    weight_decay: float = key(0.0, N_("Decay of the adapter's weights."),
        group="training", ge=0, le=1, on_resume="from_here", trainer="weight_decay",
        foreign={"unsloth": "training.weight_decay", "axolotl": "weight_decay"},
    )
    max_grad_norm: float = key(1.0, N_("Clips gradients to this norm; 0 turns clipping off."),
        group="training", ge=0, on_resume="from_here", trainer="max_grad_norm",
        foreign={"llamafactory_v1": "max_grad_norm", "axolotl": "max_grad_norm"},
    )
    max_time: Positive | None = key(None, N_("Saves a checkpoint and stops within this many hours of each start; the run can be resumed."),
        group="training", unit=N_("hours"), on_resume="saving",
    )
    deterministic: bool = key(
        False, N_("Allows only algorithms that always round the same way: slower on GPUs, but a resumed run is bit-identical."),
        group="training", on_resume="same_sum",
    )
    seed: int = key(42, N_("Seed of every random choice."),
        group="training", common=True, ge=0, lt=2**32, on_resume="data", trainer="seed",
        foreign={"llamafactory_v1": "seed", "unsloth": "training.random_seed", "axolotl": "seed"},
    )

    val_size: float = key(0.0, N_("Share of the rows held out for evaluation."),
        group="evaluation", common=True, ge=0, lt=1, on_resume="data", affects={"steps"},
        foreign={"llamafactory": "val_size", "axolotl": "val_set_size"},
    )
    eval_dataset: Text | None = key(None, N_("A separate file of rows to evaluate on, instead of `val_size`."),
        group="evaluation", on_resume="saving", path="rows", portable=False,
    )
    eval_strategy: Literal["no", "steps", "epoch"] = key("no", N_("When to evaluate the held-out rows, or those of `eval_dataset`."),
        group="evaluation", on_resume="saving", trainer="eval_strategy", foreign={"axolotl": "eval_strategy"},
    )
    eval_steps: int | None = key(None, N_("Steps between evaluations, for `eval_strategy: steps`."),
        group="evaluation", unit=N_("steps"), ge=1, on_resume="saving", trainer="eval_steps",
        foreign={"axolotl": "eval_steps"},
    )
    load_best_model_at_end: bool = key(
        False, N_("Ends with the adapter of the best checkpoint instead of the last one. That checkpoint is always kept; with `eval_strategy: epoch` there is one after every epoch."),
        group="evaluation", on_resume="saving", trainer="load_best_model_at_end",
        foreign={"axolotl": "load_best_model_at_end"},
    )
    metric_for_best_model: BestFigure | None = key(
        None, N_("The metric that decides which checkpoint is best: loss, or token_accuracy, the share of tokens that the model would have chosen itself; with or without `eval_` in front. Unset: loss."),
        group="evaluation", on_resume="saving", trainer="metric_for_best_model",
        foreign={"axolotl": "metric_for_best_model"},
    )
    greater_is_better: bool | None = key(
        None, N_("Whether a higher `metric_for_best_model` is better. Unset: depends on the metric; for a loss, lower is better."),
        group="evaluation", on_resume="saving", trainer="greater_is_better",
        foreign={"axolotl": "greater_is_better"},
    )
    early_stopping_patience: int | None = key(
        None, N_("Ends training after this many evaluations in a row without an improvement of `metric_for_best_model`. Unset: never."),
        group="evaluation", unit=N_("evaluations"), ge=1, on_resume="saving",
        foreign={"llamafactory": "early_stopping_steps", "axolotl": "early_stopping_patience"},
    )
    early_stopping_threshold: float = key(
        0.0, N_("How much better than the previous best an evaluation must be to count as an improvement for `early_stopping_patience`."),
        group="evaluation", ge=0, on_resume="saving",
    )
    questions: Text | None = key(
        None, N_("JSONL file of questions that the base model and the adapter both answer at the end; see the documentation."),
        group="evaluation", on_resume="saving", path="rows", portable=False,
    )
    sample_every_steps: int | None = key(
        None, N_("Steps between the adapter's answers to the first eight `questions` during training. Unset: only at the end."),
        group="evaluation", unit=N_("steps"), ge=1, on_resume="saving",
    )

    output_dir: Text = key("adapters", N_("Where finished adapters are published; relative paths start at the workspace."),
        group="saving", on_resume="saving", path="published", portable=False, trainer="output_dir",
        foreign={"llamafactory_v1": "output_dir", "unsloth": "training.output_dir", "axolotl": "output_dir"},
    )
    pkg: Name | None = key(None, N_("First folder below output_dir."),
        group="saving", on_resume="saving", path="published", portable=False,
    )
    version: Name | None = key(None, N_("Second folder below output_dir."),
        group="saving", on_resume="saving", path="published", portable=False,
    )
    knowledge_type: Name | None = key(None, N_("Third folder below output_dir."),
        group="saving", on_resume="saving", path="published", portable=False,
    )
    overwrite: bool = key(False, N_("Replaces an adapter that is already published there; the old one goes to the trash."),
        group="saving", on_resume="saving", portable=False,
    )
    save_steps: int = key(500, N_("Steps between checkpoints."),
        group="saving", unit=N_("steps"), ge=1, on_resume="saving", trainer="save_steps",
        foreign={"axolotl": "save_steps"},
    )
    save_total_limit: int | None = key(
        3, N_("How many of the latest checkpoints to keep (at least 2), besides the best one. Unset: all."),
        group="saving", ge=1, on_resume="saving", trainer="save_total_limit",
        foreign={"llamafactory_v1": "save_total_limit", "axolotl": "save_total_limit"},
    )
    logging_steps: int = key(10, N_("Steps between two points of the curves."),
        group="saving", unit=N_("steps"), ge=1, on_resume="saving", trainer="logging_steps",
        foreign={"llamafactory_v1": "logging_steps", "unsloth": "logging.log_frequency", "axolotl": "logging_steps"},
    )
    report_to: Literal["none"] | Tracker | Trackers = key(
        "none", N_("Trackers that also get the curves, one or a list; each is a separate package and takes its secrets from the environment."),
        group="saving", on_resume="saving", trainer="report_to",
    )

    check_r_consistency: bool = key(False, N_("Warns if a LoRA layer of the loaded model does not have the expected rank."),
        group="checks", common=True, on_resume="saving",
    )
    strict_r_check: bool = key(False, N_("Stops before the first step if a layer does not have the expected rank."),
        group="checks", common=True, on_resume="saving",
    )
    # fmt: on

    @property
    def is_balanced(self) -> bool:
        """Whether the config itself has the blocks spread over the GPUs there are; a map of its own wins."""
        return self.device_map is None and (self.use_balanced_device_map or self.strategy == "layer_split")

    @property
    def is_placed(self) -> bool:
        """Whether it says where the model lies, so that `strategy: auto` has nothing to choose."""
        return self.device_map is not None or self.use_balanced_device_map


KEYS: dict[str, Key] = described(TrainingConfig)
"""Every key by name, in the order of the schema."""


def default_config() -> dict[str, Any]:
    """Key → default for every key that has one."""
    return {key.name: key.default for key in KEYS.values() if key.default is not REQUIRED}
