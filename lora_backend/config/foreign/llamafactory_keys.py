"""LLaMA-Factory's keys that have no counterpart here, by the reason; names and defaults as in its `hparams/`, read "
"there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.config.foreign import reasons as why

ABSENT: dict[str, str | Mapping[str, Any]] = {
    why.METHOD: "oft_rank oft_target module_dropout use_llama_pro use_galore use_apollo use_badam use_mca "
    "train_from_scratch mixture_of_depths reward_model",
    why.LEARNS: "asft_alpha eaft_alpha calculate_per_token_loss "
    "use_adam_mini use_muon use_dft_loss use_asft_loss use_eaft_loss disable_shuffling "
    "shift_attn rope_scaling moe_aux_loss_coef pure_bf16 upcast_layernorm "
    "upcast_lmhead_output add_tokens add_special_tokens resize_vocab new_special_tokens_config",
    why.ADAPTER: "kt_use_lora_experts kt_lora_expert_num kt_lora_expert_intermediate_size pissa_convert",
    why.FRESH: "adapter_folder create_new_adapter",
    why.PACKING: "use_packed_sequences",
    why.DATA: "eval_dataset streaming tokenized_path interleave_probs data_shared_file_system "
    "dataset_info_path tool_format",
    why.ROWS: "max_samples",
    why.SPEED: "recompute_granularity recompute_method recompute_num_layers bias_activation_fusion apply_rope_fusion "
    "masked_softmax_fusion cross_entropy_loss_fusion moe_grouped_gemm kt_cpu_activation kt_weight_path "
    "kt_non_expert_weight_path kt_expert_checkpoint_path kt_config enable_torch_profiler profiler_output_dir "
    "profiler_wait_steps profiler_warmup_steps profiler_active_steps profiler_repeat profiler_record_shapes "
    "profiler_profile_memory profiler_with_stack profile_modules "
    "use_unsloth use_unsloth_gc enable_liger_kernel use_v1_kernels fp8 fp8_enable_fsdp_float8_all_gather use_kt",
    why.PICTURES: "image_do_pan_and_scan crop_to_patches use_audio_in_video media_dir",
    why.TRACKING: "use_swanlab swanlab_workspace swanlab_run_name swanlab_logdir plot_loss",
    why.SECRET: "swanlab_api_key swanlab_lark_webhook_url swanlab_lark_secret hf_hub_token ms_hub_token om_hub_token",
    why.EVALUATION: "eval_on_each_dataset compute_accuracy eval_num_beams",
    why.REMOTE_CODE: "trust_remote_code",
    why.LOGGING: "include_effective_tokens_per_second print_param_status",
    why.DISTRIBUTED: "tensor_model_parallel_size pipeline_model_parallel_size expert_model_parallel_size "
    "context_parallel_size virtual_pipeline_model_parallel_size sequence_parallel "
    "account_for_embedding_in_pipeline_split account_for_loss_in_pipeline_split use_distributed_optimizer "
    "overlap_param_gather overlap_grad_reduce use_megatron_bridge megatron_bridge_args megatron_pretrained_checkpoint "
    "use_hyper_parallel hyper_parallel_args hyper_parallel_cp_size master_addr master_port extra_config "
    "moe_token_dispatcher_type "
    "ray_run_name ray_init_kwargs ray_storage_filesystem quantization_device_map",
    why.GENERATION: "default_system enable_thinking skip_special_tokens",
    why.TOKENIZER: "split_special_tokens",
    why.SAVING: "export_hf_on_finish "
    "export_dir export_quantization_bit export_quantization_dataset export_legacy_format export_hub_model_id",
}
WITH_DEFAULTS: dict[str, dict[str, Any]] = {
    why.METHOD: {
        "freeze_trainable_layers": 2, "freeze_trainable_modules": "all", "freeze_extra_modules": None,
        "oft_block_size": 32, "pref_beta": 0.1, "pref_ftx": 0.0, "pref_bco_weight": 0.0, "pref_loss": "sigmoid",
        "dpo_label_smoothing": 0.0, "kto_chosen_weight": 1.0, "kto_rejected_weight": 1.0, "simpo_gamma": 0.5,
        "ppo_buffer_size": 1, "ppo_epochs": 4, "ppo_score_norm": False, "ppo_target": 6.0, "ppo_whiten_rewards": False,
        "ref_model": None, "ref_model_adapters": None, "ref_model_quantization_bit": None,
        "reward_model_adapters": None, "reward_model_quantization_bit": None, "reward_model_type": "lora",
        "ld_alpha": None, "galore_target": "all", "galore_rank": 16, "galore_update_interval": 200, "galore_scale": 2.0,
        "galore_proj_type": "std", "galore_layerwise": False, "apollo_target": "all", "apollo_rank": 16,
        "apollo_update_interval": 200, "apollo_scale": 32.0, "apollo_proj": "random", "apollo_proj_type": "std",
        "apollo_scale_type": "channel", "apollo_layerwise": False, "apollo_scale_front": False, "badam_mode": "layer",
        "badam_start_block": None, "badam_switch_mode": "ascending", "badam_switch_interval": 50,
        "badam_update_ratio": 0.05, "badam_mask_mode": "adjacent", "badam_verbose": 0,
    },
    why.LEARNS: {"loraplus_lr_embedding": 1e-6, "ignore_pad_token_for_loss": True, "init_special_tokens": "noise_init"},
    why.DATA: {"buffer_size": 16384, "mix_strategy": "concat"},
    why.TEMPLATE: {"template": None, "preserve_thinking": False},
    why.LOADER: {
        "preprocessing_num_workers": None, "preprocessing_batch_size": 1000, "overwrite_cache": False,
        "low_cpu_mem_usage": True, "offload_folder": "offload", "cache_dir": None,
    },
    why.SPEED: {
        "use_reentrant_gc": True, "fp8_backend": "auto", "kt_optimize_rule": None, "cpu_infer": 32, "chunk_size": 8192,
        "mode": "normal", "kt_maxlen": 4096, "kt_use_cuda_graph": True, "kt_mode": "normal",
    },
    why.TOKENIZER: {"use_fast_tokenizer": True},
    why.STORED: {"mixed_precision": "bf16"},
    why.MODEL: {"model_revision": "main"},
    why.PICTURES: {
        "image_max_pixels": 589824, "image_min_pixels": 1024, "video_max_pixels": 65536, "video_min_pixels": 256,
        "video_fps": 2.0, "video_maxlen": 128, "audio_sampling_rate": 16000, "freeze_vision_tower": True,
        "freeze_multi_modal_projector": True, "freeze_language_model": False,
    },
    why.QUANTIZED: {"quantization_type": "nf4", "double_quantization": True},
    why.TRACKING: {"swanlab_project": "llamafactory", "swanlab_mode": "cloud"},
    why.DISTRIBUTED: {
        "ray_storage_path": "./saves", "ray_num_workers": 1, "resources_per_worker": {"GPU": 1},
        "placement_strategy": "PACK",
    },
    why.GENERATION: {
        "vllm_maxlen": 4096, "vllm_gpu_util": 0.7, "vllm_enforce_eager": False, "vllm_max_lora_rank": 32,
        "vllm_config": None, "sglang_maxlen": 4096, "sglang_mem_fraction": 0.7, "sglang_tp_size": -1,
        "sglang_config": None, "sglang_lora_backend": "triton", "kt_force_think": False, "system_message": None,
        "infer_backend": "huggingface", "infer_dtype": "auto", "use_kv_cache": True, "do_sample": True,
        "temperature": 0.95, "top_p": 0.7, "top_k": 50, "num_beams": 1, "max_length": 1024, "max_new_tokens": 1024,
        "repetition_penalty": 1.0, "length_penalty": 1.0,
    },
    why.SAVING: {
        "export_size": 5, "export_device": "cpu", "export_quantization_nsamples": 128,
        "export_quantization_maxlen": 1024,
    },
}  # fmt: skip
