"""Profiles composed from a few traced blocks, held against a trace of every block."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from accelerate.utils import check_device_map
from torch._subclasses.fake_tensor import DataDependentOutputException
from transformers import LlamaForCausalLM

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError, UntraceableError, UntrainableError
from lora_backend.modeling import profiling, trace
from lora_backend.modeling.by_formula import measures_of, profile_by_formula
from lora_backend.modeling.fake_step import FakeStep
from lora_backend.modeling.meta import build_base, build_meta, model_config
from lora_backend.modeling.profiling import profile_for
from lora_backend.modeling.step_parts import cut
from lora_backend.modeling.trace import full_trace
from lora_backend.modeling.trace_sizes import attention_windows, max_positions, trace_sizes
from lora_backend.modeling.tracker import Recording
from lora_backend.models.catalogue import catalogue
from lora_backend.planning.cost.memory import Memory, Workload
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.scaling import Size, monomials
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.planning.plan import device_map
from tests.often import often
from tests.planning.profiles import CONFIG, LLAMA, MIXTRAL, TIED, WINDOWS, llama, profile_of, settings_of, shallow

LAYER_TYPES = ["sliding_attention", "sliding_attention", "full_attention"] * 3 + ["full_attention"]
CHECKPOINTING = {"gradient_checkpointing": True}
SETTINGS: dict[str, dict[str, Any]] = {
    "bf16 adapters": {"adapter_precision": "bf16", **CHECKPOINTING},
    "fp32 adapters under autocast": {},
    "nf4": {"quantization": "nf4", **CHECKPOINTING},
    "chunked loss": {"loss_type": "chunked_nll", **CHECKPOINTING},
}
FAMILIES = (
    "HuggingFaceTB/SmolLM2-135M",  # Llama, tied
    "Qwen/Qwen1.5-MoE-A2.7B",  # experts
    "google/gemma-2-2b",  # windows in every other block, capped logits
    "openai-community/gpt2",  # weights the other way round, learned positions
    "EleutherAI/pythia-1.4b",  # attention and MLP side by side
    "LiquidAI/LFM2-1.2B",  # convolutions between attention
)
UNKNOWN_ORDER = 0.03
"""What the chunked loss may be off by: how its last tile is cut depends on the size, so that its events differ. Most with
little more than one tile and few blocks, as here."""


def predicted(profile: Profile, size: Size, **workload: Any) -> tuple[int, int]:
    """Bytes of the weights, and what comes and goes at the peak, of the whole model on one device."""
    memory = Memory(profile, Workload(size, on_gpu=False, **workload))
    breakdown = memory.device(range(memory.num_units))
    return breakdown.weights, breakdown.gradients + breakdown.activations + breakdown.logits


def both(
    facts: dict[str, Any], settings: TraceSettings, size: Size, **keys: Any
) -> tuple[tuple[int, int], tuple[int, int]]:
    """What the profile says of a size that was not traced, and what a full trace of that size says."""
    profile = profile_of(facts, settings, **keys)
    config = CONFIG.model_copy(update={key: value for key, value in keys.items() if key != "r"})
    return predicted(profile, size), full_trace(facts, config, settings, size)


ALWAYS = {
    "bf16 adapters": (FAMILIES[0], FAMILIES[5]),
    "fp32 adapters under autocast": (FAMILIES[1], FAMILIES[2]),
    "nf4": (FAMILIES[1], FAMILIES[3]),
    "chunked loss": (FAMILIES[2], FAMILIES[4]),
}
"""Each family in one setting, each setting in two families or more; `make soak` has them all."""
CASES = [
    pytest.param(name, setting, marks=() if name in ALWAYS[setting] else pytest.mark.soak, id=f"{name}-{setting}")
    for name in FAMILIES
    for setting in SETTINGS
]


@pytest.mark.parametrize(("name", "setting"), CASES)
def test_six_families_are_predicted_as_a_full_trace_finds_them(name: str, setting: str) -> None:
    facts = shallow(name)
    size = Size(1, min(1500, max_positions(model_config(facts)) or 1500), 16)
    found, traced = both(facts, settings_of(facts, size.tokens, **SETTINGS[setting]), size)
    if setting == "chunked loss":
        assert found[0] == traced[0]
        assert sum(found) == pytest.approx(sum(traced), rel=UNKNOWN_ORDER)
    else:
        assert found == traced, "to the byte"


@pytest.mark.parametrize(
    ("chosen", "size"),
    [
        pytest.param({"uneven": True}, Size(3, 500, 16), marks=pytest.mark.soak),
        ({"uneven": True, **CHECKPOINTING}, Size(4, 700, 16)),
        ({}, Size(1, 1000, 64)),
        ({}, Size(1, 1000, 1)),
        ({"precision": "fp32"}, Size(1, 1000, 16)),
        pytest.param({"precision": "fp16"}, Size(1, 1000, 16), marks=pytest.mark.soak),
        ({"attn_implementation": "eager"}, Size(1, 1000, 16)),
        ({"lora_dropout": True}, Size(1, 1000, 16)),
        ({"quantization": "int8"}, Size(1, 1000, 16)),
    ],
    ids=str,
)
def test_rows_tokens_ranks_and_settings_are_predicted_to_the_byte(chosen: dict[str, Any], size: Size) -> None:
    keys = {"lora_dropout": 0.1} if chosen.get("lora_dropout") else {}
    found, traced = both(LLAMA, TraceSettings(**chosen), size, **keys)
    assert found == traced


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param({"target_layers": [1, 3]}, marks=pytest.mark.soak),
        {"target_layers": [1, 3], "gradient_checkpointing": True},
        pytest.param({"target_layers": [3, 4]}, marks=pytest.mark.soak),
        {"rank_pattern": {"q_proj": 64, "v_proj": 2}},
        pytest.param({"modules_to_save": ["lm_head"]}, marks=pytest.mark.soak),
        pytest.param({"modules_to_save": ["embed_tokens"]}, marks=pytest.mark.soak),
        {"modules_to_save": ["embed_tokens", "lm_head"], "gradient_checkpointing": True},
        {"modules_to_save": ["norm", "input_layernorm"]},
        {"modules_to_save": ["mlp"], "target_modules": ["q_proj"], "gradient_checkpointing": True},
        {"target_modules": ["q_proj", "v_proj"]},
        {"use_dora": True},
    ],
    ids=str,
)
def test_what_is_adapted_is_predicted_to_the_byte(keys: dict[str, Any]) -> None:
    config = TrainingConfig(model_name="any", batch_size=1, precision="bf16", **keys)
    found, traced = both(LLAMA, TraceSettings.of(config, "bf16"), Size(1, 1000, 24), **keys)
    assert found == traced


@pytest.mark.parametrize(
    ("bias", "quantization"), [("all", None), ("all", "nf4"), ("lora_only", None), ("lora_only", "int8")]
)
def test_biases_that_train_are_predicted_in_a_tied_model(bias: str, quantization: Any) -> None:
    found, traced = both(TIED, TraceSettings(bias=bias, quantization=quantization), Size(1, 1000, 16), bias=bias)
    assert found == traced
    assert profile_of(TIED, TraceSettings(bias=bias), bias=bias).trainable(16) > llama(is_tied=True).trainable(16)


@pytest.mark.parametrize(
    ("model_type", "tokens"),
    often(product(("gemma2", "mistral"), (511, 512, 900)), {("gemma2", 511), ("gemma2", 512), ("mistral", 900)}),
)
def test_rows_on_either_side_of_a_window_are_predicted_to_the_byte(model_type: str, tokens: int) -> None:
    facts = {**WINDOWS, "model_type": model_type}
    settings = settings_of(facts, tokens)
    assert settings.tokens_above == (512 if tokens >= 512 else 0)
    found, traced = both(facts, settings, Size(1, tokens, 16))
    assert found == traced
    if tokens > 512 and model_type == "mistral":  # Gemma 2 builds masks for short rows too
        short = profile_of(facts, replace(settings, tokens_above=0))
        assert sum(predicted(short, Size(1, tokens, 16))) < sum(traced), "masks are missing there"


def test_padded_rows_cost_a_mask_in_every_block() -> None:
    size = Size(4, 500, 16)
    padded = profile_of(LLAMA, TraceSettings(uneven=True))
    assert predicted(padded, size)[1] > predicted(llama(), size)[1] * 1.01


def test_checkpointing_keeps_less_and_the_chunked_loss_holds_no_logits() -> None:
    size = Size(1, 2000, 16)
    plain, kept_less = predicted(llama(), size)[1], predicted(llama(checkpointing=True), size)[1]
    chunked = profile_of(LLAMA, TraceSettings(gradient_checkpointing=True, loss_type="chunked_nll"))
    assert predicted(chunked, size)[1] < kept_less < plain / 2


# ------------------------------------------------------------------------------------------ what it says of the model


def test_parameters_and_trained_ones_are_those_of_the_model() -> None:
    for facts in (LLAMA, TIED, MIXTRAL):
        meta = build_meta(facts, TraceSettings(), CONFIG)
        profile = profile_of(facts, TraceSettings())
        counts = {True: 0, False: 0}
        for parameter in meta.model.parameters():
            counts[parameter.requires_grad] += parameter.numel()
        assert (profile.trainable(CONFIG.r), profile.parameters) == (counts[True], counts[False])


def test_a_buffer_beside_the_modules_is_counted_with_the_inputs() -> None:
    facts = {"model_type": "gpt_bigcode", "vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 512}
    found, traced = both(facts, TraceSettings(), Size(1, 300, 16))
    assert found == traced


def test_blocks_of_one_kind_share_a_part_and_others_do_not() -> None:
    assert llama().kind_of_block == (0, 1, 1, 1, 2)
    assert profile_of(WINDOWS, TraceSettings()).kind_of_block == (0, 1, 2, 1, 2, 3)
    some = profile_of(LLAMA, TraceSettings(target_layers=(1,)), target_layers=[1])
    assert [some.kinds[kind].trainable(8) > 0 for kind in some.kind_of_block] == [False, True, False, False, False]


def test_blocks_before_which_nothing_trains_are_a_kind_of_their_own() -> None:
    """They keep nothing for a gradient of their inputs."""
    profile = profile_of(LLAMA, TraceSettings(target_layers=(1, 3)), target_layers=[1, 3])
    assert len({profile.kind_of_block[1], profile.kind_of_block[3]}) == 2


def test_facts_beside_the_bytes_are_read_from_the_model() -> None:
    profile = profile_of(WINDOWS, TraceSettings())
    assert (profile.windows, profile.max_positions, profile.model_type) == ((512,), 4096, "gemma2")
    assert (profile.is_tied, llama().is_tied, profile.method) == (True, False, "traced")
    assert profile.tile_tokens == 2**28 // (4 * 512)


def test_windows_count_only_where_blocks_use_them() -> None:
    assert attention_windows(model_config({**LLAMA, "model_type": "qwen2", "sliding_window": 128})) == ()
    assert attention_windows(model_config({**LLAMA, "model_type": "mistral", "sliding_window": 128})) == (128,)


def test_flops_are_those_of_the_products() -> None:
    """Forward: two for each weight and token, of base and adapter, and four for each pair of tokens in attention."""
    tokens, rank = 1000, 16
    block = llama().kinds[1]
    counted = block.forward.flops @ monomials(Size(1, tokens, rank))
    linear = block.parameters - 2 * LLAMA["hidden_size"] + block.trainable(rank)
    assert counted == pytest.approx(2 * tokens * linear + 4 * tokens**2 * LLAMA["hidden_size"], rel=1e-6)


@pytest.mark.parametrize("positions", [None, 1024, 700])
@pytest.mark.parametrize("windows", [(), (512,), (64, 600)])
@pytest.mark.parametrize("chosen", [{}, {"uneven": True}, {"loss_type": "chunked_nll", "is_tiled": True}, {"loss_type": "chunked_nll", "is_tiled": True, "uneven": True}], ids=str)  # fmt: skip
def test_sizes_of_a_trace_differ_and_stay_on_one_side_of_every_window(
    chosen: dict[str, Any], windows: tuple[int, ...], positions: int | None
) -> None:
    tile = 256
    for above in (0, *windows):
        if chosen.get("is_tiled") and any(above < window <= tile for window in windows):
            continue  # one row that is so short is one tile
        sizes = trace_sizes(TraceSettings(**chosen, tokens_above=above), windows, positions, tile)
        tokens = [size.tokens for size in sizes]
        assert len(set(tokens)) == len({size.rank for size in sizes}) == 3
        assert len({size.rows for size in sizes}) == (3 if chosen.get("uneven") else 1)
        assert all(above <= number <= (positions or 2**20) for number in tokens)
        assert all(number < window for window in windows if window > above for number in tokens)
        if chosen.get("is_tiled"):
            assert all(size.rows * size.tokens > tile for size in sizes)


def test_rows_of_an_untiled_loss_stay_within_one_tile() -> None:
    for uneven in (False, True):
        sizes = trace_sizes(TraceSettings(loss_type="chunked_nll", uneven=uneven), (), None, 256)
        assert len({size.tokens for size in sizes}) == 3
        assert all(size.rows * size.tokens <= 256 for size in sizes)


def test_progress_is_told_from_beginning_to_end() -> None:
    told: list[tuple[str, float]] = []
    config = CONFIG.model_copy(update={"batch_size": 1})
    profile_for(LLAMA, config, lambda message, fraction: told.append((message.text("en"), fraction)))
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert told[1][0] == "Tracing a training step (1 of 3)"


# ------------------------------------------------------------------------------------------ what cannot be traced


def test_a_family_that_cannot_be_traced_gets_a_formula_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("data-dependent\nsecond line")

    traced_error = llama().expected_error  # while it can be traced
    monkeypatch.setattr(FakeStep, "run", fails)
    config = CONFIG.model_copy(update={"batch_size": 1})
    profile = profile_for(LLAMA, config)
    assert profile.method == "formula"
    assert profile.expected_error > traced_error
    with pytest.raises(UntraceableError, match=r"cannot be traced: data-dependent$"):
        trace.trace_profile(LLAMA, config, TraceSettings())


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({key: value for key, value in LLAMA.items() if key != "model_type"}, "no `model_type`"),
        ({**LLAMA, "model_type": "no_such_family"}, "transformers does not know models of the type no_such_family"),
        (
            {**LLAMA, "model_type": "own_code", "auto_map": {"AutoModel": "m.M"}},
            "come with their own code, which is not run",
        ),
        ({"model_type": "t5", "d_model": 64, "num_layers": 2}, "only causal language models"),
        ({**LLAMA, "hidden_size": "wide"}, "cannot be understood: .*hidden_size"),
    ],
    ids=["no type", "unknown", "own code", "encoder-decoder", "not a number"],
)
def test_a_model_that_cannot_be_planned_is_refused_in_a_sentence(facts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence) as caught:
        profile_for(facts, CONFIG)
    assert "\n" not in str(caught.value)


def test_no_code_of_a_repository_is_run() -> None:
    facts = {**LLAMA, "auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    assert profile_for(facts, CONFIG).model_type == "llama", "transformers' own class is used"


def test_checkpointing_where_a_family_has_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("LlamaForCausalLM does not support gradient checkpointing.")

    monkeypatch.setattr(LlamaForCausalLM, "activation_checkpointing_enable", refuse)
    with pytest.raises(ModelError, match="does not support `gradient_checkpointing`"):
        trace.trace_profile(LLAMA, CONFIG, TraceSettings(gradient_checkpointing=True))


def test_vision_language_models_are_planned_by_their_blocks_or_refused() -> None:
    text = {**WINDOWS, "model_type": "gemma3_text"}
    vision = {"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
              "num_attention_heads": 2, "image_size": 28, "patch_size": 14}  # fmt: skip
    facts = {"model_type": "gemma3", "text_config": text, "vision_config": vision, "mm_tokens_per_image": 4}
    profile = profile_for(facts, CONFIG.model_copy(update={"batch_size": 1}))
    assert len(profile.kind_of_block) == 6
    assert profile.blocks_path.endswith("layers")
    assert "vision" not in profile.blocks_path


@pytest.mark.parametrize("family", ["llama", "gpt2", "falcon", "gemma2"])
def test_a_formula_takes_the_models_own_names_so_that_its_map_can_be_loaded(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untraceable(*_: object, **__: object) -> None:
        raise UntraceableError("Its step cannot be traced.")

    monkeypatch.setattr(profiling, "trace_profile", untraceable)
    model = next(known for known in catalogue() if known.model_type == family)
    profile = profile_for(model.config, TrainingConfig(model_name="m", precision="bf16"))
    assert profile.method == "formula"
    units = profile.num_units
    check_device_map(
        build_base(model.config, profile.settings), device_map(profile, [index % 2 for index in range(units)])
    )


def test_what_hangs_in_a_circle_is_let_go_with_its_own_step() -> None:
    config = CONFIG.model_copy(update={"r": 8})
    meta = build_meta(LLAMA, TraceSettings(), config)

    def hang(module: Any, inputs: Any, output: Any) -> None:
        circle: list[Any] = [(output[0] if isinstance(output, tuple) else output).detach() * 2]
        circle.append(circle)

    meta.blocks[0].register_forward_hook(hang)
    storages = FakeStep(meta, TraceSettings()).run(Size(1, 64, 8)).recording.storages
    assert sum(1 if number >= 0 else -1 for number in storages) == 0


# ------------------------------------------------------------------------------------------ mixtures, tables, full depth


@pytest.mark.parametrize(
    ("precision", "targets"),
    often(
        product(("bf16", "fp16", "fp32"), ("all-linear", ("q_proj", "v_proj"))),
        {("bf16", "all-linear"), ("fp16", ("q_proj", "v_proj")), ("fp32", "all-linear")},
    ),
    ids=str,
)
def test_mixtures_are_traced_in_every_precision(
    precision: Any, targets: str | tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    """With experts that are adapted, and with attention alone."""
    keys = {} if targets == "all-linear" else {"target_modules": list(targets)}
    settings = TraceSettings(precision=precision, target_modules=targets)
    found, traced = both(MIXTRAL, settings, Size(1, 1000, 16), **keys)
    assert found == traced
    assert "Traceback" not in capfd.readouterr().err


def test_products_of_experts_count_for_each_token_that_visits_one() -> None:
    tokens = 1000
    one, two = (
        profile_of({**MIXTRAL, "num_experts_per_tok": visited}, TraceSettings(target_modules=("q_proj",)), target_modules=["q_proj"])
        for visited in (1, 2)
    )  # fmt: skip
    expert = 3 * MIXTRAL["hidden_size"] * MIXTRAL["intermediate_size"]
    for way in ("forward", "backward"):
        flops = [getattr(profile.kinds[1], way).flops @ monomials(Size(1, tokens, 8)) for profile in (one, two)]
        assert flops[1] - flops[0] == pytest.approx(2 * tokens * expert, rel=1e-6), "one product each way"


GEMMAS = {
    "gemma3n_text": {
        "num_kv_shared_layers": 4, "intermediate_size": [96] * 10, "layer_types": LAYER_TYPES, "laurel_rank": 8,
        "activation_sparsity_pattern": [0.95] * 3 + [0.0] * 7, "altup_num_inputs": 2,
    },
    "gemma4_text": {"num_kv_shared_layers": 4, "layer_types": LAYER_TYPES, "global_head_dim": 32},
}  # fmt: skip


@pytest.mark.parametrize("family", [pytest.param("gemma3n_text", marks=pytest.mark.soak), "gemma4_text"])  # 14 s, 6 s
def test_tables_of_all_blocks_are_kept_where_blocks_are_traced_one_of_a_kind(family: str) -> None:
    tables = {"vocab_size_per_layer_input": 512, "hidden_size_per_layer_input": 16}
    facts = {**WINDOWS, **tables, **GEMMAS[family], "model_type": family, "num_hidden_layers": 10}
    profile = profile_for(facts, CONFIG.model_copy(update={"batch_size": 1, "max_length": 400}))
    assert profile.method == "traced"
    size = Size(1, 400, 16)
    assert predicted(profile, size) == full_trace(facts, CONFIG, profile.settings, size)


@pytest.mark.parametrize(
    ("facts", "chosen"),
    [
        pytest.param(WINDOWS, {}, id="windows"),
        pytest.param(WINDOWS, {"uneven": True, **CHECKPOINTING}, id="windows, padded", marks=pytest.mark.soak),
        pytest.param(MIXTRAL, {}, id="mixture"),
        pytest.param(MIXTRAL, {"uneven": True, **CHECKPOINTING}, id="mixture, padded"),
    ],
)
def test_a_trace_of_every_block_says_the_same(facts: dict[str, Any], chosen: dict[str, Any]) -> None:
    settings = TraceSettings(**chosen)
    whole = trace.trace_profile(facts, CONFIG, settings, way="whole")
    assert whole.method == "traced_whole"
    assert len(whole.kinds) < len(whole.kind_of_block), "blocks that cost the same are one kind"
    size = Size(3 if settings.uneven else 1, 450, 16)
    assert predicted(whole, size) == predicted(profile_of(facts, settings), size)
    assert whole.parameters == profile_of(facts, settings).parameters


def test_blocks_that_share_weights_are_traced_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken one by one their weights would count several times."""
    build = build_meta

    def sharing(*arguments: Any) -> Any:
        meta = build(*arguments)
        for block in list(meta.blocks)[2:]:
            block.mlp = meta.blocks[1].mlp
        return meta

    monkeypatch.setattr(trace, "build_meta", sharing)
    profile = profile_for(LLAMA, CONFIG.model_copy(update={"batch_size": 1}))
    assert sum(predicted(profile, Size(1, 500, 16))) == sum(
        full_trace(LLAMA, CONFIG, profile.settings, Size(1, 500, 16))
    )


# ------------------------------------------------------------------------------------------ counts, where a formula answers


@pytest.mark.parametrize(
    ("family", "quantization"),
    often(
        product(("llama", "mixtral", "gemma2", "qwen2"), (None, "nf4")),
        {("llama", "nf4"), ("mixtral", None), ("gemma2", None), ("qwen2", "nf4")},
    ),
)
def test_a_formula_guesses_activations_alone(family: str, quantization: Any) -> None:
    facts = {**{"llama": LLAMA, "mixtral": MIXTRAL, "gemma2": WINDOWS, "qwen2": TIED}[family]}
    settings = TraceSettings(quantization=quantization)
    guessed, traced = profile_by_formula(facts, CONFIG, settings), profile_of(facts, settings)
    assert (guessed.method, guessed.parameters, guessed.is_tied) == ("formula", traced.parameters, traced.is_tied)
    found, expected = (Memory(profile, Workload(Size(1, 900, 16), on_gpu=False)) for profile in (guessed, traced))
    units = range(expected.num_units)
    assert [found.weights_bytes(unit) for unit in units] == [expected.weights_bytes(unit) for unit in units]
    one, other = found.device(units), expected.device(units)
    assert (one.weights, one.adapter, one.optimizer) == (other.weights, other.adapter, other.optimizer)


def test_a_formula_needs_no_key_that_transformers_has_a_default_for() -> None:
    measures = measures_of(build_base({"model_type": "gpt2", "n_layer": 2}, TraceSettings()))
    assert (measures.hidden, measures.heads, measures.inner, measures.vocabulary) == (768, 12, 4 * 768, 50257)


# ------------------------------------------------------------------------------------------ steps that fail


def test_a_step_that_fails_is_refused_with_its_reason() -> None:
    """PEFT's LoRA breaks Llama 4's router, whose layer gives a pair; training would end with the same words."""
    facts = {
        **LLAMA, "model_type": "llama4_text", "head_dim": 16, "num_local_experts": 2, "num_experts_per_tok": 1,
        "intermediate_size_mlp": 96, "interleave_moe_layer_step": 1,
    }  # fmt: skip
    with pytest.raises(
        UntrainableError, match=r"training step fails: 'tuple' object has no attribute 'dtype'"
    ) as raised:
        profile_for(facts, CONFIG.model_copy(update={"batch_size": 1}))
    assert raised.value.key == "model_name"
    attention = CONFIG.model_copy(update={"batch_size": 1, "target_modules": ["q_proj", "v_proj"]})
    assert profile_for(facts, attention).method != "formula"


@pytest.mark.parametrize(
    "error",
    [
        DataDependentOutputException(torch.ops.aten._local_scalar_dense.default),
        NotImplementedError("no kernel for this device"),
        RuntimeError("Cannot access data pointer of Tensor (e.g. FakeTensor)"),
        AssertionError("Please convert all Tensors to FakeTensors first"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_needs_values_is_the_tracers_own_limit(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def needs_values(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(LlamaForCausalLM, "forward", needs_values)
    assert profile_for(LLAMA, CONFIG.model_copy(update={"batch_size": 1})).method == "formula"


def test_blocks_that_give_a_list_are_traced_as_others_are() -> None:
    facts = {"model_type": "openai-gpt", "vocab_size": 64, "n_embd": 32, "n_layer": 4, "n_head": 2, "n_positions": 512}
    found, traced = both(facts, TraceSettings(), Size(1, 300, 16))
    assert found == traced


def test_blocks_that_run_several_times_in_one_pass_cannot_be_parted() -> None:
    recording = Recording(marks=[("forward 0", 0), ("forward 0", 0)])
    with pytest.raises(UntraceableError, match="run several times in one pass"):
        cut([recording] * 3, [Size(1, tokens, 8) for tokens in (8, 16, 32)])
