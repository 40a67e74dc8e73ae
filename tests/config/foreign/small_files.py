"""Small configs as people write them: other tools' own, mixtures, slips of the finger and ours. Each with what it says beyond doubt."""

from __future__ import annotations

from typing import Any

GONE: Any = object()
"""Stands for a key that nothing in the file asks for, so that no fix may set it."""

_LF = "model_name_or_path: org/base\nstage: sft\nfinetuning_type: lora\n"
_AX = "base_model: org/base\nadapter: lora\n"
_TRL = "model_name_or_path: org/base\nuse_peft: true\ndataset_name: org/rows\n"
_TA = "output_dir: out\nper_device_train_batch_size: 2\nlogging_strategy: steps\n"
_OLD = "model_name: org/base\ntraindata_percentage: 1.0\n"
_OURS = "model_name: org/base\ndataset: rows.jsonl\nr: 16\nalpha: 32\n"

LLAMAFACTORY: dict[str, tuple[str, dict[str, Any]]] = {
    "lf batch": (f"{_LF}per_device_train_batch_size: 1\ngradient_accumulation_steps: 8\n", {"batch_size": 1, "target_batch_size": 8}),
    "lf batch left out": (f"{_LF}gradient_accumulation_steps: 2\n", {"batch_size": 8, "target_batch_size": 16}),
    "lf all": (f"{_LF}lora_rank: 8\nlora_target: all\n", {"r": 8, "alpha": 16, "target_modules": "all-linear"}),
    "lf names": (f"{_LF}lora_rank: 4\nlora_alpha: 4\nlora_target: q_proj,v_proj\n", {"alpha": 4, "target_modules": ["q_proj", "v_proj"]}),
    "lf no checkpointing": (f"{_LF}disable_gradient_checkpointing: true\n", {"gradient_checkpointing": False}),
    "lf checkpointing": (f"{_LF}disable_gradient_checkpointing: false\n", {"gradient_checkpointing": True}),
    "lf rows": (f"{_LF}max_samples: 1000\noverwrite_cache: true\n", {"max_steps": GONE, "overwrite": GONE}),
    "lf muon": (f"{_LF}use_muon: true\nuse_cpu: true\n", {"use_dora": GONE, "exclude_cpu": GONE}),
    "lf saving": (f"{_LF}save_strategy: epoch\nsave_steps: 50\n", {"eval_strategy": GONE, "save_steps": 50}),
    "lf warm-up": (f"{_LF}warmup_steps: 10\nmax_steps: 200\n", {"warmup_ratio": 0.05, "max_steps": 200}),
    "lf warm-up of an unknown whole": (f"{_LF}warmup_steps: 10\n", {"warmup_ratio": GONE}),
    "lf four bits": (f"{_LF}quantization_bit: 4\nquantization_type: nf4\n", {"quantization": "nf4"}),
    "lf kernel": (f"{_LF}flash_attn: fa2\ncutoff_len: 512\n", {"attn_implementation": "flash_attention_2", "max_length": 512}),
    "lf no number format": (f"{_LF}bf16: false\nfp16: true\n", {"precision": "fp16"}),
    "lf generation": (f"{_LF}max_length: 99\ncutoff_len: 1024\n", {"max_length": 1024}),
    "lf with a slip": (f"{_LF}learnin_rate: 5.0e-5\nlora_rank: 8\n", {"r": 8}),
}  # fmt: skip
AXOLOTL: dict[str, tuple[str, dict[str, Any]]] = {
    "ax batch": (f"{_AX}micro_batch_size: 2\ngradient_accumulation_steps: 4\n", {"batch_size": 2, "target_batch_size": 8}),
    "ax total": (f"{_AX}micro_batch_size: 4\nbatch_size: 32\n", {"batch_size": 4, "target_batch_size": 32}),
    "ax class": (f"{_AX}model_type: AutoModelForCausalLM\ntokenizer_type: AutoTokenizer\n", {"model_name": "org/base"}),
    "ax strict": (f"{_AX}strict: false\nsequence_len: 4096\n", {"strict_r_check": GONE, "max_length": 4096}),
    "ax strict on": (f"{_AX}strict: true\n", {"strict_r_check": GONE}),
    "ax linear": (f"{_AX}lora_target_linear: true\nlora_target_modules: [q_proj]\n", {"target_modules": "all-linear"}),
    "ax modules": (f"{_AX}lora_r: 8\nlora_alpha: 16\nlora_target_modules: [q_proj]\n", {"r": 8, "alpha": 16, "target_modules": ["q_proj"]}),
    "ax words": (f"{_AX}optimizer: adamw_torch\nlr_scheduler: cosine\nnum_epochs: 2\n", {"optim": "adamw_torch", "lr_scheduler_type": "cosine", "num_epochs": 2}),
    "ax fp32": (f"{_AX}bf16: false\nfp16: false\n", {"precision": "fp32"}),
    "ax kernel": (f"{_AX}flash_attention: true\nsample_packing: true\n", {"attn_implementation": "flash_attention_2"}),
    "ax int8": (f"{_AX}load_in_8bit: true\npeft_use_dora: true\n", {"quantization": "int8", "use_dora": True}),
    "ax blocks": (f"{_AX}peft_layers_to_transform: [0, 1]\nlora_modules_to_save: [lm_head]\n", {"target_layers": [0, 1], "modules_to_save": ["lm_head"]}),
    "ax real keys that nobody here knows": (f"{_AX}quantize_moe_experts: true\nebft: {{}}\n", {"quantization": GONE}),
}  # fmt: skip
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "trl": (f"{_TRL}lora_r: 8\nlora_alpha: 8\nlora_target_modules: [q_proj, v_proj]\n", {"r": 8, "alpha": 8, "target_modules": ["q_proj", "v_proj"]}),
    "trl batch": (f"{_TRL}per_device_train_batch_size: 2\ngradient_accumulation_steps: 16\n", {"batch_size": 2, "target_batch_size": 32}),
    "trl storage": (f"{_TRL}torch_dtype: float16\nbf16: true\n", {"precision": "bf16"}),
    "trl fp32": (f"{_TRL}bf16: false\n", {"precision": "fp32"}),
    "trl four bits": (f"{_TRL}load_in_4bit: true\nuse_bnb_nested_quant: true\n", {"quantization": "nf4"}),
    "trl length": (f"{_TRL}max_seq_length: 2048\nnum_train_epochs: 1\n", {"max_length": 2048, "num_epochs": 1}),
    "arguments": (f"{_TA}gradient_accumulation_steps: 4\nnum_train_epochs: 1\n", {"batch_size": 2, "target_batch_size": 8, "num_epochs": 1}),
    "arguments cpu": (f"{_TA}use_cpu: true\nno_cuda: true\n", {"exclude_cpu": GONE}),
    "arguments format": (f"{_TA}bf16: true\nseed: 7\n", {"precision": "bf16", "seed": 7}),
    "arguments folder": (f"{_TA}overwrite_output_dir: true\nsave_total_limit: 3\n", {"overwrite": GONE, "save_total_limit": 3}),
    "arguments best": (f"{_TA}load_best_model_at_end: true\nmetric_for_best_model: loss\n", {"batch_size": 2, "metric_for_best_model": "loss", "load_best_model_at_end": GONE}),
    "unsloth": ("model: org/base\ntraining:\n  max_seq_length: 1024\n  batch_size: 2\n  gradient_accumulation_steps: 4\nlora:\n  lora_r: 64\n  lora_alpha: 16\n", {"max_length": 1024, "batch_size": 2, "target_batch_size": 8, "r": 64, "alpha": 16}),
    "unsloth format": ("model: org/base\ntraining:\n  training_type: lora\n  load_in_4bit: false\n  random_seed: 3\nlogging:\n  log_frequency: 5\n", {"quantization": GONE, "seed": 3, "logging_steps": 5}),
    "peft": ("peft_type: LORA\nbase_model_name_or_path: org/base\nr: 4\nlora_alpha: 8\ntarget_modules: [q_proj]\n", {"r": 4, "alpha": 8, "target_modules": ["q_proj"]}),
    "peft bias": ("peft_type: LORA\nbase_model_name_or_path: org/base\nr: 4\nlora_bias: true\nbias: none\n", {"bias": "none"}),
    "peft blocks": ("peft_type: LORA\nbase_model_name_or_path: org/base\nlayers_to_transform: [0, 3]\nrank_pattern: {q_proj: 2}\n", {"target_layers": [0, 3], "rank_pattern": {"q_proj": 2}}),
    "original": (f"{_OLD}r: 64\nalpha: 16\ndropout: 0.05\nloraadaptor_save_path_base: /a/b\n", {"r": 64, "lora_dropout": 0.05, "output_dir": "/a/b"}),
    "original launcher": (f"{_OLD}r: 8\nrank: 3\nworld_size: 4\n", {"r": 8}),
    "original rank alone": (f"{_OLD}rank: 0\n", {"r": GONE}),
    "original data": (f"{_OLD}corpus_path: /c\ncodeParrotMixNumber: 5\nblock_size: 512\n", {"max_length": GONE, "dataset": GONE}),
}  # fmt: skip
MIXED: dict[str, tuple[str, dict[str, Any]]] = {
    "ours with one of theirs": (f"{_OURS}lora_target: all\n", {"r": 16, "target_modules": "all-linear"}),
    "ours with their alpha": ("model_name: org/base\nr: 16\nlora_alpha: 64\n", {"r": 16, "alpha": 64}),
    "ours wins": (f"{_OURS}lora_alpha: 64\nlora_rank: 4\n", {"r": 16, "alpha": 32}),
    "ours with accumulation": (f"{_OURS}batch_size: 2\ngradient_accumulation_steps: 8\n", {"batch_size": 2, "target_batch_size": 16}),
    "ours with their rows and accumulation": (f"{_OURS}per_device_train_batch_size: 1\ngradient_accumulation_steps: 8\n", {"batch_size": 1, "target_batch_size": 8}),
    "ours with accumulation of nothing": (f"{_OURS}gradient_accumulation_steps: 8\n", {"target_batch_size": GONE}),
    "ours with a total beside the rows": (f"{_OURS}batch_size: 32\nmicro_batch_size: 4\n", {"batch_size": 4, "target_batch_size": 32}),
    "ours with warm-up": (f"{_OURS}warmup_steps: 5\nmax_steps: 50\n", {"warmup_ratio": 0.1}),
    "ours with warm-up of an unknown whole": (f"{_OURS}warmup_steps: 5\n", {"warmup_ratio": GONE}),
    "ours with a switch turned around": (f"{_OURS}disable_gradient_checkpointing: true\n", {"gradient_checkpointing": False}),
    "ours with a key that is not read alike": (f"{_OURS}bf16: false\n", {"precision": GONE}),
    "ours with Unsloth's calls": ("model_name: org/base\nuse_gradient_checkpointing: unsloth\nrandom_state: 3407\n", {"gradient_checkpointing": True, "seed": 3407}),
    "ours with a format": (f"{_OURS}bf16: true\n", {"precision": "bf16"}),
    "ours with a bias of another kind": (f"{_OURS}lora_bias: true\n", {"bias": GONE}),
    "ours with saving": (f"{_OURS}save_strategy: epoch\nmodel_type: llama\n", {"model_name": "org/base", "eval_strategy": GONE}),
    "ours with muon": (f"{_OURS}use_muon: true\nmax_samples: 10\n", {"use_dora": GONE, "max_steps": GONE}),
    "ours with a launcher": (f"{_OURS}rank: 0\nlocal_rank: 0\n", {"r": 16}),
    "a rank by another name": ("model_name: org/base\nrank: 8\n", {"r": 8}),
    "a launcher's rank": ("model_name: org/base\nrank: 8\nworld_size: 16\n", {"r": GONE}),
    "ours full of theirs": ("model_name: org/base\ndisable_gradient_checkpointing: true\nmax_samples: 1000\nuse_muon: true\nuse_cpu: true\nsave_strategy: epoch\n", {"gradient_checkpointing": False, "max_steps": GONE, "use_dora": GONE, "exclude_cpu": GONE, "eval_strategy": GONE}),
    "two tools": ("lora_rank: 8\nlora_target: all\ncutoff_len: 512\nsequence_len: 512\nmicro_batch_size: 2\nsample_packing: true\n", {"r": GONE, "batch_size": GONE}),
    "DeepSpeed's": (f"{_OURS}train_batch_size: 64\ntrain_micro_batch_size_per_gpu: 2\n", {"target_batch_size": 64}),
}  # fmt: skip
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "whole": (_OURS, {"r": 16, "alpha": 32}),
    "slip": (f"{_OURS}learnin_rate: 5.0e-5\n", {"learning_rate": 5e-5}),
    "swapped letters": (f"{_OURS}max_lenght: 512\nbatch_szie: 2\n", {"max_length": 512, "batch_size": 2}),
    "plural": (f"{_OURS}target_module: [q_proj]\nsave_step: 20\n", {"target_modules": ["q_proj"], "save_steps": 20}),
    "joined": (f"{_OURS}batchsize: 2\n", {"batch_size": 2}),
    "camel case": ("modelName: org/base\nloraAlpha: 8\nlearningRate: 1.0e-5\n", {"model_name": "org/base", "alpha": 8, "learning_rate": 1e-5}),
    "letters": ("Model-Name: org/base\nR: 8\n", {"model_name": "org/base", "r": 8}),
    "the other end": (f"{_OURS}min_length: 10\nmin_steps: 5\n", {"max_length": GONE, "max_steps": GONE}),
    "turned around": (f"{_OURS}no_gradient_checkpointing: true\ninclude_cpu: true\n", {"gradient_checkpointing": GONE, "exclude_cpu": GONE}),
    "another word": (f"{_OURS}use_lora: true\nval_steps: 5\n", {"use_dora": GONE, "eval_steps": GONE}),
    "not saved": (f"{_OURS}load_steps: 3\nskip_seed: 1\n", {"save_steps": GONE, "seed": GONE}),
    "of nobody": (f"{_OURS}frobnicate: 3\n", {"frobnicate": GONE}),
    "informal": ("model_name: org/base\nlr: 1.0e-5\nepochs: 2\n", {"learning_rate": 1e-5, "num_epochs": 2}),
    "a wrong value": (f'{_OURS}learning_rate: "1e-4"\n', {"learning_rate": 1e-4}),
}  # fmt: skip
FILES = LLAMAFACTORY | AXOLOTL | OTHERS | MIXED | OURS
