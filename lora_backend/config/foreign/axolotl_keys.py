"""axolotl's keys that have no counterpart here, by the reason; names as in its `utils/schemas/`, read there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.config.foreign import reasons as why

ABSENT: dict[str, str | Mapping[str, Any]] = {
    why.METHOD: "ebft center_rewards_coefficient dpo_use_liger_kernel dpo_padding_free dpo_loss_type dpo_loss_weights "
    "dpo_generate_during_eval dpo_norm_loss relora_prune_method use_mora mora_type mora hatchery kd_trainer "
    "kd_ce_alpha kd_alpha kd_temperature kd_beta kd_normalize_topk kd_online_server_base_url kd_online_topk "
    "kd_online_server kd_online_timeout kd_temperature_min spectrum_top_fraction spectrum_model_name use_onebitllms "
    "full_finetune trainer_cls "
    "rl trl vllm grpo kto_desirable_weight kto_undesirable_weight rl_beta dpo_beta orpo_alpha rpo_alpha cpo_alpha "
    "simpo_gamma reward_model process_reward_model num_labels dpo_use_weighting dpo_use_logits_to_keep "
    "dpo_label_smoothing precompute_ref_log_probs relora relora_steps relora_warmup_steps relora_cpu_offload "
    "relora_prune_ratio qat unfrozen_parameters llama_adapter diffusion dft_loss",
    why.LEARNS: "reinit_weights use_eaft eaft_alpha eaft_k scaling_softmax scaling_softmax_factor "
    "scaling_softmax_bias fp32_norms fp32_norm_classes grokfast_alpha grokfast_lamb dense_mixer dion_lr dion_momentum "
    "dion_rank_fraction dion_rank_multiple_of qgalore_rank qgalore_update_proj_gap qgalore_scale qgalore_proj_type "
    "qgalore_proj_quant qgalore_proj_bits qgalore_proj_group_size qgalore_cos_threshold qgalore_gamma_proj "
    "qgalore_queue_size nvfp4_merge_aware nvfp4_merge_aware_start_step "
    "embedding_lr embedding_lr_scale lr_quadratic_warmup cosine_min_lr_ratio cosine_constant_lr_ratio "
    "lr_div_factor lr_groups adam_epsilon2 adam_beta3 lisa_n_layers lisa_step_interval "
    "curriculum_sampling shrink_embeddings "
    "resize_token_embeddings_to_32x mean_resizing_embeddings fix_untrained_tokens use_pose pose_split_on_token_ids "
    "pose_max_context_len pose_num_chunks s2_attention rope_scaling model_config overrides_of_model_config "
    "adam_epsilon loss_watchdog_threshold loss_watchdog_patience min_sample_len jagged_restart_steps "
    "jagged_restart_warmup_steps jagged_restart_anneal_steps router_aux_loss_coef",
    why.ADAPTER: "peft lora_fan_in_fan_out lora_target_parameters peft_layers_pattern peft_layer_replication "
    "peft_trainable_token_indices peft_ensure_weight_tying peft_autocast_adapter_dtype",
    why.PACKING: "sample_packing_mp_start_method pad_to_multiple_of pretrain_multipack_buffer_size "
    "pretrain_multipack_attn streaming_multipack_buffer_size sample_packing_seq_len_multiplier "
    "sample_packing_sequentially multipack_real_batches eval_sample_packing "
    "pretraining_sample_concatenation pad_to_sequence_len max_packed_sequence_len",
    why.DATA: "shuffle_before_merging_datasets num_dataset_shards_to_save preprocess_iterable role_boundaries "
    "dataset_shard_num dataset_shard_idx dataset_exact_deduplication streaming "
    "skip_prepare_dataset push_dataset_to_hub excess_length_strategy",
    why.TEMPLATE: "chat_template_kwargs chat_template chat_template_jinja default_system_message eot_tokens",
    why.TOKENIZER: "processor_kwargs "
    "special_tokens tokens added_tokens_overrides tokenizer_config tokenizer_use_fast tokenizer_legacy "
    "tokenizer_use_mistral_common processor_type add_special_tokens",
    why.MODEL: "base_model_config cls_model_config revision_of_model model_revision model_kwargs "
    "overrides_of_model_kwargs model_quantization_config model_quantization_config_kwargs is_falcon_derived_model "
    "is_llama_derived_model is_mistral_derived_model is_qwen_derived_model base_model_ignore_patterns",
    why.REMOTE_CODE: "trust_remote_code plugins",
    why.SPEED: "sage_attention gemma4_hybrid_attn_impl large_head_attention flash_attn_d512 sdpa_varlen "
    "fused_attn_kernel experts_implementation lora_embedding_kernel chunked_cross_entropy_num_chunks "
    "tiled_mlp_num_shards tiled_mlp_use_original_mlp deepcompile torch_compile_options profiler_steps_start "
    "gc_collect_steps selective_checkpointing layer_offloading fp8_enable_fsdp_float8_all_gather expert_backend "
    "moe_grouped_backend moe_dequant_chunk_size moe_bnb_fast use_scattermoe use_sonicmoe use_dsv4_kernels "
    "use_glm_dsa_kernels dsv4_fp8_lora_kernel dsv4_shared_mlp_lora_kernel liger_rms_norm_gated "
    "liger_use_token_scaling "
    "xformers_attention flex_attention flex_attn_compile_kwargs flash_attn_cross_entropy flash_attn_rms_norm "
    "flash_attn_fuse_qkv flash_attn_fuse_mlp flash_optimum unsloth_cross_entropy_loss unsloth_lora_mlp "
    "unsloth_lora_qkv "
    "unsloth_lora_o unsloth_rms_norm unsloth_rope lora_mlp_kernel lora_qkv_kernel lora_o_kernel use_kernels "
    "llama4_linearized_experts activation_offloading gc_steps profiler_steps low_cpu_mem_usage lora_on_cpu tiled_mlp "
    "torchdistx_path cut_cross_entropy liger_rope liger_rms_norm liger_glu_activation liger_layer_norm liger_swiglu "
    "liger_cross_entropy liger_fused_linear_cross_entropy chunked_cross_entropy embeddings_skip_upcast fp8",
    why.LOADER: "dataset_prepared_path dataset_processes dataset_keep_in_memory dataset_num_proc",
    why.DISTRIBUTED: "expert_parallel_size expert_parallel_backend expert_parallel_num_nvl_bytes "
    "expert_parallel_num_rdma_bytes expert_parallel_token_capacity expert_parallel_fallback_on_unsupported "
    "capabilities env_capabilities "
    "world_size ddp device max_memory gpu_memory_limit sequence_parallel_degree context_parallel_size "
    "tensor_parallel_size dp_shard_size dp_replicate_size heads_k_stride ring_attn_func fsdp_version "
    "fsdp_final_state_dict_type use_ray ray_run_name ray_num_workers resources_per_worker qlora_sharded_model_loading",
    why.EVALUATION: "eval_sequence_len lm_eval_tasks lm_eval_batch_size lm_eval_post_train lm_eval_model "
    "eval_batch_size eval_table_size eval_max_new_tokens do_causal_lm_eval eval_causal_lm_metrics "
    "do_bench_eval bench_dataset bench_split generate_samples num_generation_samples generation_max_new_tokens",
    why.SAVING: "dynamic_checkpoint saves_per_epoch save_first_step",
    why.UNMERGED: "merge_lora output_merged",
    why.TRACKING: "use_swanlab swanlab_project swanlab_experiment_name swanlab_description swanlab_mode "
    "swanlab_workspace swanlab_log_model swanlab_web_host swanlab_api_host swanlab_log_completions "
    "swanlab_completion_log_interval swanlab_completion_max_buffer use_otel_metrics otel_metrics_host "
    "otel_metrics_port "
    "wandb_project wandb_entity wandb_watch wandb_name wandb_run_id wandb_log_model wandb_mode "
    "mlflow_tracking_uri mlflow_experiment_name mlflow_run_name hf_mlflow_log_artifacts use_comet "
    "comet_workspace comet_project_name comet_experiment_key comet_mode comet_online comet_experiment_config "
    "trackio_project_name trackio_run_name",
    why.SECRET: "swanlab_api_key swanlab_lark_webhook_url swanlab_lark_secret comet_api_key hf_use_auth_token",
    why.GENERATION: "generation_temperature generation_top_p generation_top_k generation_prompt_ratio "
    "generation_do_sample "
    "gradio_title gradio_share gradio_server_name gradio_server_port gradio_max_new_tokens "
    "gradio_temperature inference",
    why.PICTURES: "freeze_mm_modules is_multimodal image_size image_resize_algorithm",
    why.QUANTIZED: "quantize_moe_experts gptq_groupsize gptq_model_v1 gptq_disable_exllama llmcompressor "
    "nonexpert_quantization dsv4_fp8_nonexpert_mode dsv4_bf16_all dsv4_fp4_grouped_mode gemma4_fp8_nonexpert "
    "gemma4_nf4_nonexpert "
    "gptq bnb_config_kwargs quantization",
    why.LOGGING: "debug include_tokens_per_second include_tkps local_rank",
    why.RESUME: "auto_resume_from_checkpoints",
    why.RECORD: "axolotl_config_path total_num_tokens total_supervised_tokens sample_packing_eff_est is_preprocess "
    "axolotl_version strict",
}
WITH_DEFAULTS: dict[str, dict[str, Any]] = {
    why.LEARNS: {"loraplus_lr_embedding": 1e-6, "adam_beta1": None, "adam_beta2": None},
    why.PACKING: {"sample_packing_group_size": 100_000, "sample_packing_bin_size": 200},
    why.DATA: {"shuffle_merged_datasets": True},
    why.MODEL: {
        "model_type": "AutoModelForCausalLM", "type_of_model": "AutoModelForCausalLM",
        "experimental_skip_move_to_device": True,
    },
    why.TOKENIZER: {"tokenizer_type": "AutoTokenizer", "tokenizer_save_jinja_files": True},
    why.METHOD: {"max_prompt_len": 512},
    why.SAVING: {"merge_method": "memory_efficient"},
    why.TRACKING: {"lisa_layers_attribute": "model.layers"},
}  # fmt: skip
