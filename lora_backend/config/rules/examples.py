"""For each rule a config that breaks it and the nearest one that does not: tested, and shown in the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lora_backend.config.rules.base import Facts, GpuFact
from lora_backend.i18n import N_, Message
from lora_backend.models.causal import why_not_causal
from lora_backend.models.quantized import Quantized
from lora_backend.models.tree import ModuleTree

_AMPERE = GpuFact("NVIDIA A100", (8, 0))
_TURING = GpuFact("NVIDIA T4", (7, 5))
_LLAMA = Facts(
    num_blocks=32,
    linear_names=("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj"),
    linear_modules=("q_proj", "v_proj"),
    outer_modules=("embed_tokens", "lm_head"),
)


def _problem(key: str, template: str, path: str) -> Facts:
    """Facts of a file that stands in the way, with the sentence of who looked for it."""
    return Facts(problems=(("warning", key, Message(template, {"path": path})),))


@dataclass(frozen=True)
class Example:
    """`broken` and `whole` are lines of YAML beside `model_name`; `facts` are those of both, unless `whole_facts` differ."""

    code: str
    broken: str
    whole: str
    facts: Facts = field(default_factory=Facts)
    whole_facts: Facts | None = None


def _pairs(pairs: Mapping[str, tuple[str, str]]) -> list[Example]:
    return [Example(code, broken, whole) for code, (broken, whole) in pairs.items()]


FILE = _pairs(
    {
        "syntax": ("r: [1, 2", "target_layers: [1, 2]"),
        "duplicate_key": ("r: 8\nr: 16", "r: 8\nalpha: 16"),
        "unknown_key": ("lora_rank: 8", "r: 8"),
        "foreign_config": (
            "lora_rank: 8\nlora_alpha: 32\nlora_target: all\ncutoff_len: 2048",
            "r: 8\nalpha: 32\ntarget_modules: all-linear\nmax_length: 2048",
        ),
        "wrong_type": ('r: "16"', "r: 16"),
        "unusable_word": ("lr_scheduler_type: reduce_lr_on_plateau", "lr_scheduler_type: cosine"),
        "out_of_range": ("lora_dropout: 1.0", "lora_dropout: 0.9"),
        "cache_with_checkpointing": ("gradient_checkpointing: true\nuse_cache: true", "gradient_checkpointing: true"),
        "leading_zero": ("seed: 010", "seed: 10"),
        "yaml_1_1": ("knowledge_type: 1:30\npkg: p\nversion: v", 'knowledge_type: "1:30"\npkg: p\nversion: v'),
        "full_width": ("output_dir: ａｄａｐｔｅｒｓ", "output_dir: adapters"),
        "secret_in_config": ("dataset: hf_abcdefghijklmnopqrst", "dataset: hf_short.jsonl"),
    }
)
"""What is wrong with the file or with a key by itself; `missing_key` is tested apart, for every example has the one."""

ACROSS = _pairs(
    {
        "empty_list": ("target_modules: []", "target_modules: [q_proj]"),
        "repeated_entry": ("target_layers: [1, 1]", "target_layers: [1, 2]"),
        "no_expression": ("target_modules: '(q'", "target_modules: '(q)'"),
        "expression_too_slow": (
            "rank_pattern: {(x+)+y: 8, xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: 16}",
            "rank_pattern: {x+y: 8, xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: 16}",
        ),
        "shadowed_pattern": (
            "rank_pattern: {q_proj: 8, layers.0.self_attn.q_proj: 16}",
            "rank_pattern: {layers.0.self_attn.q_proj: 16, q_proj: 8}",
        ),
        "unusual_scale": ("r: 8\nalpha: 128", "r: 16\nalpha: 128"),
        "layers_from_one": ("target_layers: [1, 2, 3, 4, 5, 6, 7, 8]", "target_layers: [0, 1, 2, 3, 4, 5, 6, 7]"),
        "random_start": ("init_lora_weights: false", "init_lora_weights: true"),
        "odd_rank": ("r: 3\nalpha: 3\ninit_lora_weights: orthogonal", "r: 4\nalpha: 4\ninit_lora_weights: orthogonal"),
        "bias_changes_base": ("bias: all", "bias: none"),
        "trained_twice": (
            "target_modules: [q_proj, lm_head]\nmodules_to_save: [lm_head]",
            "target_modules: [q_proj]\nmodules_to_save: [lm_head]",
        ),
        "strict_without_check": ("strict_r_check: true", "strict_r_check: true\ncheck_r_consistency: true"),
        "device_map_wins": ("use_balanced_device_map: true\ndevice_map: auto", "use_balanced_device_map: true"),
        "no_balancing": ("force_balance: true", "force_balance: true\nuse_balanced_device_map: true"),
        "start_of_quantized": (
            "quantization: nf4\ninit_lora_weights: pissa",
            "quantization: nf4\ninit_lora_weights: olora",
        ),
        "quantized_offload": (
            "quantization: nf4\ndevice_map: {model: 0, lm_head: cpu}",
            "quantization: nf4\ndevice_map: {model: cpu, lm_head: cpu}",
        ),
        "flash_in_fp32": (
            "attn_implementation: flash_attention_2\nprecision: fp32",
            "attn_implementation: flash_attention_2\nprecision: bf16",
        ),
        "target_batch_size_no_multiple": ("batch_size: 4\ntarget_batch_size: 6", "batch_size: 4\ntarget_batch_size: 8"),
        "unusual_learning_rate": ("learning_rate: 1e-6", "learning_rate: 1e-5"),
        "steps_overrule_epochs": ("max_steps: 100\nnum_epochs: 3", "max_steps: 100"),
        "warmup_ignored": (
            "lr_scheduler_type: constant\nwarmup_ratio: 0.03",
            "lr_scheduler_type: constant_with_warmup\nwarmup_ratio: 0.03",
        ),
        "no_warmup": ("lr_scheduler_type: constant_with_warmup", "lr_scheduler_type: constant"),
        "long_warmup": ("warmup_ratio: 0.6", "warmup_ratio: 0.5"),
        "evaluation_without_data": ("eval_strategy: epoch", "eval_strategy: epoch\nval_size: 0.1\nseed: 42"),
        "rows_held_back_for_nothing": ("val_size: 0.1\nseed: 42", "val_size: 0.1\nseed: 42\neval_strategy: epoch"),
        "eval_steps_ignored": ("eval_steps: 10", "eval_steps: 10\neval_strategy: steps\nval_size: 0.1\nseed: 42"),
        "eval_steps_not_written": (
            "eval_strategy: steps\nval_size: 0.1\nseed: 42",
            "eval_strategy: steps\neval_steps: 10\nval_size: 0.1\nseed: 42",
        ),
        "evaluation_off_checkpoints": (
            "eval_strategy: steps\neval_steps: 20\nsave_steps: 30\nval_size: 0.1\nseed: 42",
            "eval_strategy: steps\neval_steps: 20\nsave_steps: 40\nval_size: 0.1\nseed: 42",
        ),
        "seed_not_written": ("val_size: 0.1\neval_strategy: epoch", "val_size: 0.1\neval_strategy: epoch\nseed: 42"),
        "incomplete_publication": ("pkg: a", "pkg: a\nversion: v1"),
        "nothing_published": ("overwrite: true", "overwrite: true\npkg: a\nversion: v1"),
        "steps_never_come": ("max_steps: 100\nsave_steps: 200", "max_steps: 100\nsave_steps: 100"),
    }
)
"""What keys say of each other."""

KNOWN = [
    Example("not_causal", "r: 8", "r: 8", Facts(not_causal=why_not_causal({"model_type": "t5"})), Facts()),
    Example("quantized_untrainable", "r: 8", "r: 8", Facts(quantized=Quantized("nvfp4")), Facts()),
    Example("quantized_already", "quantization: nf4", "r: 8", Facts(quantized=Quantized("bitsandbytes")), Facts()),
    Example("quantized_expanded", "r: 8", "r: 8", Facts(quantized=Quantized("fp8")), Facts()),
    Example(
        "model_library_missing",
        "r: 8",
        "r: 8",
        Facts(quantized=Quantized("hqq"), missing_for_model=("hqq>=0.2.1",)),
        Facts(quantized=Quantized("hqq")),
    ),
    Example(
        "trains_tied_weights",
        "modules_to_save: [lm_head]",
        "modules_to_save: [norm]",
        Facts(is_tied=True),
    ),
    Example(
        "model_name_unusable",
        "",
        "",
        _problem("model_name", N_("There is no model folder {path}. Check `model_name`."), "m"),
        Facts(),
    ),
    Example(
        "dataset_unusable",
        "dataset: d.jsonl",
        "dataset: d.jsonl",
        _problem("dataset", N_("There is no data set {path}. Check the path."), "d.jsonl"),
        Facts(),
    ),
    Example(
        "questions_unusable",
        "questions: q.jsonl",
        "questions: q.jsonl",
        _problem("questions", N_("There is no data set {path}. Check the path."), "q.jsonl"),
        Facts(),
    ),
    Example("layer_beyond_model", "target_layers: [31, 32]", "target_layers: [30, 31]", _LLAMA),
    Example("unmatched_target", "target_modules: [q_porj]", "target_modules: [q_proj]", _LLAMA),
    Example("unmatched_pattern", "rank_pattern: {k_proj: 8}", "rank_pattern: {q_proj: 8}", _LLAMA),
    Example(
        "quantized_whole",
        "quantization: int8\nmodules_to_save: [q_proj]",
        "quantization: int8\nmodules_to_save: [lm_head]",
        _LLAMA,
    ),
    Example("experts_all_linear", "target_modules: all-linear", "target_modules: [q_proj]", Facts(has_experts=True)),
    Example(
        "refused_target",
        "target_modules: [in_proj, out_proj]",
        "target_modules: [in_proj, x_proj]",
        Facts(model_type="mamba", linear_modules=("in_proj", "x_proj", "out_proj")),
    ),
    Example(
        "all_linear_leaves_out",
        "target_modules: all-linear",
        "target_modules: [in_proj, x_proj]",
        Facts(model_type="mamba", linear_modules=("in_proj", "x_proj", "out_proj")),
    ),
    Example(
        "towers_left_alone",
        "target_modules: all-linear",
        "target_modules: all-linear",
        Facts(tree=ModuleTree("gemma3", {}, {}, towers=("model.vision_tower", "model.multi_modal_projector"))),
        Facts(tree=ModuleTree("gemma3_text", {}, {})),
    ),
    Example("max_length_beyond_positions", "max_length: 4097", "max_length: 4096", Facts(max_positions=4096)),
    Example(
        "no_tokenizer", "dataset: d.jsonl", "dataset: d.jsonl", Facts(has_tokenizer=False), Facts(has_tokenizer=True)
    ),
    Example(
        "no_chat_template",
        "dataset: d.jsonl",
        "dataset: d.jsonl",
        Facts(row_format="messages", has_tokenizer=True, has_chat_template=False),
        Facts(row_format="prompt_completion", has_tokenizer=True, has_chat_template=False),
    ),
    Example(
        "nothing_to_hold_back",
        "dataset: d.jsonl\nval_size: 0.1\neval_strategy: epoch\nseed: 42",
        "dataset: d.jsonl",
        Facts(num_rows=1),
    ),
    Example("batch_beyond_rows", "batch_size: 17", "batch_size: 16", Facts(num_rows=16)),
    Example("fp16_without_gpu", "precision: fp16", "precision: fp16", Facts(gpus=()), Facts(gpus=(_TURING,))),
    Example("bf16_on_old_gpu", "precision: bf16", "precision: bf16", Facts(gpus=(_TURING,)), Facts(gpus=(_AMPERE,))),
    Example(
        "quantization_without_gpu", "quantization: nf4", "quantization: nf4", Facts(gpus=()), Facts(gpus=(_AMPERE,))
    ),
    Example(
        "kernel_without_gpu",
        "attn_implementation: flash_attention_2",
        "attn_implementation: sdpa",
        Facts(gpus=()),
    ),
    Example(
        "kernel_on_old_gpu",
        "attn_implementation: flash_attention_2",
        "attn_implementation: flash_attention_2",
        Facts(gpus=(_TURING,)),
        Facts(gpus=(_AMPERE,)),
    ),
    Example(
        "library_missing",
        "optim: grokadamw",
        "optim: adamw_torch",
        Facts(missing_packages={"optim": "grokadamw"}),
        Facts(),
    ),
    Example("no_such_device", "device_map: {model: 1}", "device_map: {model: 0}", Facts(gpus=(_AMPERE,))),
    Example(
        "more_gpus_than_blocks",
        "use_balanced_device_map: true\nforce_balance: true",
        "use_balanced_device_map: true",
        Facts(num_blocks=2, gpus=(_AMPERE,) * 3),
    ),
    Example(
        "already_published",
        "pkg: a\nversion: v1",
        "pkg: a\nversion: v1\noverwrite: true",
        Facts(is_published=True),
    ),
    Example(
        "publication_forbidden",
        "output_dir: .\npkg: runs\nversion: v1",
        "output_dir: adapters\npkg: runs\nversion: v1",
        Facts(
            publication_forbidden=(
                "pkg",
                Message(
                    N_(
                        "No adapter can be published in {path}: {folder} is for other files of Flightdeck. Choose another `{key}`."
                    ),
                    {"path": "./workspace/runs/v1", "folder": "./workspace/runs", "key": "pkg"},
                ),
            )
        ),
        Facts(),
    ),
    Example(
        "not_an_adapter",
        "pkg: a\nversion: v1",
        "pkg: a\nversion: v2",
        Facts(publication_blocked_by="./workspace/adapters/a/v1"),
        Facts(),
    ),
    Example(
        "output_in_use",
        "pkg: a\nversion: v1",
        "pkg: a\nversion: v1",
        Facts(output_used_by="20260101-120000-ab"),
        Facts(),
    ),
    Example(
        "disk_too_small",
        "r: 64\nalpha: 64",
        "r: 8\nalpha: 8",
        Facts(linear_width={"q_proj": 350_000}, disk_free_bytes=2**30),
    ),
]
"""What model, data and machine say."""

EXAMPLES: tuple[Example, ...] = (*FILE, *ACROSS, *KNOWN)
