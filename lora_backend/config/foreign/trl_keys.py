"""Keys of TRL's other trainers, and of scripts around TRL, that have no counterpart here, by the reason.

Names as in trl 1.16 (`DPOConfig`, `KTOConfig`, `GRPOConfig`, `RLOOConfig`, `RewardConfig`, `DistillationConfig`), and
those that older versions had.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.config.foreign import reasons as why
from lora_backend.config.foreign.key_mapping import keys

OTHER_MARKERS = keys(
    "beta max_prompt_length max_completion_length num_generations desirable_weight undesirable_weight "
    "reward_model_name_or_path reward_funcs teacher_model_name_or_path num_ppo_epochs f_divergence_type"
)
"""Keys that say by themselves which method a file is for, whatever they are set to."""
OTHER_METHODS = OTHER_MARKERS | keys(
    # preferences
    "discopop_tau ld_alpha f_alpha_divergence_coef label_smoothing loss_weights precompute_ref_batch_size ref_model_mixup_alpha "
    "ref_model_sync_steps sync_ref_model use_weighting reference_free generate_during_eval ref_adapter_name "
    "model_adapter_name force_use_ref_model use_logits_to_keep label_pad_token_id is_encoder_decoder "
    "center_rewards_coefficient max_target_length "
    # answers that are rewarded
    "cast_lm_head_to_fp32 delta entropy_coef entropy_coef_delta entropy_coef_max entropy_coef_min entropy_target "
    "epsilon "
    "epsilon_high generation_batch_size importance_sampling_level log_completions_hub_repo log_multimodal "
    "log_unique_prompts mask_truncated_completions max_tool_calling_iterations multi_objective_aggregation "
    "normalize_advantages num_completions_to_print num_generations_eval num_iterations off_policy_mask_threshold "
    "reward_clip_range reward_weights sapo_temperature_neg sapo_temperature_pos scale_rewards steps_per_generation "
    "top_entropy_quantile use_adaptive_entropy use_bias_correction_kl vespo_k_neg vespo_k_pos vespo_lambda_neg "
    "vespo_lambda_pos vllm_importance_sampling_cap vllm_importance_sampling_clip_max "
    "vllm_importance_sampling_clip_min vllm_importance_sampling_correction vllm_importance_sampling_mode "
    "whiten_rewards kl_coef cliprange cliprange_value vf_coef gamma lam response_length stop_token "
    "missing_eos_penalty sft_model_path reward_model_path "
    # another model's answers
    "teacher_model_init_kwargs teacher_model_revision lmbda"
)
ABSENT: dict[str, str | Mapping[str, Any]] = {
    why.METHOD: "disable_dropout precompute_ref_log_probs log_completions use_vllm",
    why.GENERATION: "cache_implementation chat_template_kwargs ds3_gather_for_generation generation_kwargs min_p "
    "repetition_penalty temperature top_k top_p transformers_continuous_batching_config "
    "use_transformers_continuous_batching use_transformers_paged vllm_enable_sleep_mode vllm_gpu_memory_utilization "
    "vllm_group_port vllm_max_model_length vllm_mode vllm_model_impl vllm_server_base_url vllm_server_host "
    "vllm_server_port vllm_server_timeout vllm_structured_outputs_regex vllm_tensor_parallel_size system_prompt",
    why.TEMPLATE: "chat_template",
    why.DATA: "dataset_splits dataset_configs text_column auto_insert_empty_system_msg",
    why.HUB: "hub_model_revision push_to_hub_revision overwrite_hub_revision",
    why.EVALUATION: "benchmarks callbacks",
    why.TRACKING: "wandb_entity wandb_project wandb_run_group",
}
