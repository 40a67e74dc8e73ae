"""Rows without padding give a model what padded ones give it, or it is said why they are padded."""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import Any

import pytest
import torch
from accelerate.hooks import attach_align_device_hook_on_blocks
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    Gemma3TextConfig,
    Llama4TextConfig,
    MistralConfig,
    PreTrainedModel,
    StableLmConfig,
)
from transformers.loss.loss_utils import ForCausalLMLoss

from lora_backend.kernels import flat_attention as kernel
from lora_backend.kernels.flat_attention import FLAT, NoExampleLengthsError
from lora_backend.kernels.flat_inputs import flat_inputs
from lora_backend.modeling import flat_structure
from lora_backend.modeling.checkpointing import checkpoint_activations
from lora_backend.modeling.flat_model import flat_attention, why_not_flat
from lora_backend.modeling.flat_structure import why_not_flat_by_structure
from lora_backend.modeling.step import LossPath, micro_batch_loss, micro_batch_step
from tests.modeling.families import CONFIGS, HEADS, HYBRIDS, MIXTURES, SMALL, linear_endings, on_meta

TEXT = {**SMALL, "intermediate_size": 24, "num_hidden_layers": 3, "head_dim": 8, **HEADS}
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
WINDOW: dict[str, Any] = {"sliding_window": 4, "layer_types": MIXED}
MORE: dict[str, Any] = {
    "mistral": MistralConfig(**TEXT, sliding_window=4),
    "gemma3": Gemma3TextConfig(**TEXT, **WINDOW),
    "stablelm": StableLmConfig(**SMALL, intermediate_size=24, num_hidden_layers=3, **HEADS),
    "llama4": Llama4TextConfig(
        **TEXT, intermediate_size_mlp=24, num_local_experts=2, attention_chunk_size=4,
        layer_types=["chunked_attention", "chunked_attention", "full_attention"],
    ),
}  # fmt: skip
ALL = CONFIGS | MIXTURES | HYBRIDS | MORE
CHANGED: dict[str, dict[str, Any]] = {"gemma2": WINDOW, "gpt_oss": WINDOW, "gpt2": {"attn_pdrop": 0.0}}
"""Windows that the rows are longer than; no dropout where two ways are held together."""
NAMED = ("llama", "mistral", "gemma2", "gemma3", "gpt_oss", "gpt2")
LENGTHS = (7, 3, 12, 1, 7)
PADDED_WHY = {
    "bloom": "computes its attention itself",
    "falcon": "computes its attention itself",
    "stablelm": "hand on",
    "qwen3_next": "linear_attention",
    "mamba": "linear_attention",
    "falcon_h1": "hybrid",
    "llama4": "chunked_attention",
}


def model_of(family: str) -> Any:
    config = ALL[family].__class__.from_dict({**ALL[family].to_dict(), **CHANGED.get(family, {})})
    for name in ("resid_pdrop", "embd_pdrop", "dropout", "attention_dropout", "hidden_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():  # as they begin, hardly anything depends on anything
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    return model


def adapted(family: str, *, checkpointed: bool = False) -> Any:
    base = model_of(family)
    targets = linear_endings(base)
    model = get_peft_model(base, LoraConfig(r=4, init_lora_weights=False, target_modules=targets))
    if checkpointed:
        checkpoint_activations(model)
    return model.train()


def examples(vocabulary: int = 32) -> list[torch.Tensor]:
    return [torch.randint(4, vocabulary, (n,), generator=torch.Generator().manual_seed(n)) for n in LENGTHS]


def padded(ids: list[torch.Tensor]) -> dict[str, Any]:
    pad = nn.utils.rnn.pad_sequence
    labels = [nn.functional.pad(one[1:], (1, 0), value=-100) for one in ids]
    return {
        "input_ids": pad(ids, batch_first=True),
        "attention_mask": pad([torch.ones_like(one) for one in ids], batch_first=True),
        "labels": pad(labels, batch_first=True, padding_value=-100),
    }


def flat(ids: list[torch.Tensor], learned: int | None = None) -> dict[str, Any]:
    """`learned`: the one example whose tokens have labels; None: all have."""
    labels = [nn.functional.pad(one[1:], (1, 0), value=-100) for one in ids]
    if learned is not None:
        labels = [one if index == learned else torch.full_like(one, -100) for index, one in enumerate(labels)]
    return {
        "input_ids": torch.cat(ids)[None],
        "labels": torch.cat(labels)[None],
        "position_ids": torch.cat([torch.arange(len(one)) for one in ids])[None],
        "lengths": tuple(len(one) for one in ids),
    }


def stepped(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Its loss, and the gradient of all that trains."""
    model.zero_grad(set_to_none=True)
    loss = micro_batch_step(model, batch, precision="fp32", loss_path=LossPath.of(model), num_items=25)
    return loss, {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("family", NAMED)
def test_loss_and_gradients_are_those_of_padded_rows(family: str, checkpointed: bool) -> None:
    model = adapted(family, checkpointed=checkpointed)
    assert why_not_flat(model, "fp32") is None
    ids = examples()
    loss, gradients = stepped(model, padded(ids))
    with flat_attention(model):
        flat_loss, flat_gradients = stepped(model, flat(ids))
    torch.testing.assert_close(flat_loss, loss)
    assert flat_gradients.keys() == gradients.keys()
    assert len(gradients) >= 24
    scale = max(gradient.norm().item() for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(flat_gradients[name], gradient, rtol=1e-4, atol=1e-6 * scale, msg=name)


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("family", NAMED)
def test_another_token_in_a_neighbour_changes_no_bit_of_an_example(family: str, checkpointed: bool) -> None:
    """Neither of its loss nor of the gradient that it alone gives, which a checkpoint computes again."""
    model, ids = adapted(family, checkpointed=checkpointed), examples()
    with flat_attention(model):
        for learned in (0, 2, 4):
            before, gradients = stepped(model, flat(ids, learned))
            for other in {0, 2, 4} - {learned}:
                changed = [torch.where(torch.arange(len(one)) == len(one) // 2, 3, one) if index == other else one for index, one in enumerate(ids)]  # fmt: skip
                after, changed_gradients = stepped(model, flat(changed, learned))
                if family == "gpt_oss":  # its experts take tokens of all examples together, in another order
                    torch.testing.assert_close(after, before)
                    torch.testing.assert_close(changed_gradients, gradients, rtol=1e-4, atol=1e-6)
                else:
                    assert torch.equal(after, before)
                    assert all(torch.equal(changed_gradients[name], gradient) for name, gradient in gradients.items())
            own = [torch.where(torch.arange(len(one)) == len(one) // 2, 3, one) for one in ids]
            assert not torch.equal(stepped(model, flat(own, learned))[0], before)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_family_with_linear_attention_is_padded_in_words(checkpointed: bool) -> None:
    model = adapted("qwen3_next", checkpointed=checkpointed)
    assert "linear_attention" in str(why_not_flat(model, "fp32"))


@pytest.mark.parametrize("family", ALL)
def test_a_family_computes_flat_rows_alike_or_says_why_it_does_not(family: str) -> None:
    model, ids = model_of(family).eval(), examples()
    reason = why_not_flat(model, "fp32")
    assert (reason is None) == (family not in PADDED_WHY)
    if reason is not None:
        assert PADDED_WHY[family] in str(reason)
        return
    with torch.no_grad():
        expected = model(**padded(ids)).logits
        with flat_attention(model):
            found = model(**flat_inputs(flat(ids))).logits[0].split(LENGTHS)
    for one, row in zip(found, expected, strict=True):
        torch.testing.assert_close(one, row[: len(one)], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ALL)
def test_what_is_known_without_values_is_what_a_trial_finds(family: str) -> None:
    """A plan, which has no values, takes the batches that the training takes."""
    assert (why_not_flat(on_meta_of(family), "fp32") is None) == (family not in PADDED_WHY)


def on_meta_of(family: str) -> Any:
    if family not in MORE:
        return on_meta(family)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(MORE[family])


def test_a_model_that_leaks_is_found_by_trying_it() -> None:
    """A causal convolution that knows no boundaries, such as some hybrids have."""
    model = model_of("llama")
    mlp = model.model.layers[0].mlp
    own = mlp.forward
    mlp.forward = lambda hidden: own(hidden + nn.functional.pad(hidden[:, :-1], (0, 0, 1, 0)))
    assert str(why_not_flat(model, "fp32")) == "Rows of llama without padding see each other."


def test_a_model_that_computes_something_else_is_found_by_trying_it() -> None:
    model = model_of("llama")
    own = model.model.rotary_emb.forward
    model.model.rotary_emb.forward = lambda x, position_ids: own(x, position_ids * 0 if len(x) == 1 else position_ids)
    assert "computes something else" in str(why_not_flat(model, "fp32"))


def test_a_layer_that_is_not_told_where_rows_end_is_found_by_trying_it() -> None:
    model = model_of("llama")
    layer = model.model.layers[1].self_attn
    own = layer.forward
    layer.forward = lambda *args, example_lengths=None, **kwargs: own(*args, **kwargs)
    assert "LlamaAttention is not told where the rows of a batch end" in str(why_not_flat(model, "fp32"))


def test_a_model_that_refuses_the_call_is_padded_in_words() -> None:
    model = model_of("llama")
    own = model.model.forward

    def narrow(input_ids: Any, attention_mask: Any, position_ids: Any, **kwargs: Any) -> Any:
        if "example_lengths" in kwargs:
            raise TypeError("got an unexpected keyword argument 'example_lengths'")
        return own(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, **kwargs)

    model.model.forward = narrow
    said = str(why_not_flat(model, "fp32"))
    assert said.startswith("llama does not take rows without padding: ")
    assert "unexpected keyword argument" in said


def test_trying_leaves_the_model_as_it_was() -> None:
    model = adapted("gemma2")
    random = torch.get_rng_state()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    assert why_not_flat(model, "fp32") is None
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert model.get_base_model().config._attn_implementation == "eager"


@pytest.mark.parametrize("attention", ["eager", "flex_attention"])
def test_the_users_own_attention_counts(attention: str) -> None:
    model = model_of("llama")
    assert f"`attn_implementation: {attention}`" in str(why_not_flat(model, "fp32", attention))
    assert why_not_flat(model, "fp32", "sdpa") is None


def test_alibi_is_padded_in_words() -> None:
    model = model_of("llama")
    model.config.alibi = True
    assert "(ALiBi)" in str(why_not_flat(model, "fp32"))


def test_half_precision_is_tried_in_half_precision() -> None:
    model = model_of("llama").bfloat16()
    assert why_not_flat(model, "bf16") is None


def test_padded_rows_are_refused_within_and_computed_again_after_it() -> None:
    model, batch = model_of("llama"), padded(examples())
    path = LossPath.of(model)
    before = micro_batch_loss(model, batch, precision="fp32", loss_path=path, num_items=20)
    with flat_attention(model):
        assert model.config._attn_implementation == FLAT
        with pytest.raises(NoExampleLengthsError):
            micro_batch_loss(model, batch, precision="fp32", loss_path=path, num_items=20)
    assert torch.equal(micro_batch_loss(model, batch, precision="fp32", loss_path=path, num_items=20), before)
    assert model.config._attn_implementation == "sdpa"


def test_no_mask_is_made_and_no_position_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    own = kernel.flat_attention_forward

    def watched(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        seen.append(args[3])
        return own(module, *args, **kwargs)

    def packed(_: torch.Tensor) -> None:
        raise AssertionError("positions are looked through")

    monkeypatch.setattr("transformers.masking_utils.find_packed_sequence_indices", packed)
    AttentionInterface.register(FLAT, watched)
    try:
        model = model_of("mistral")
        with flat_attention(model):
            model(**flat_inputs(flat(examples())))
    finally:
        AttentionInterface.register(FLAT, own)
    assert seen == [None] * 3


def test_where_rows_end_goes_along_to_the_next_device() -> None:
    """accelerate's hooks take the call of each part to its device: the last block and the head are on the meta device."""
    model = model_of("llama")
    last = ("model.layers.2", "model.norm", "lm_head")
    first = ("model.embed_tokens", "model.rotary_emb", "model.layers.0", "model.layers.1")
    for name in last:
        model.get_submodule(name).to("meta")
    places: dict[str, Any] = {**dict.fromkeys(("", *first), "cpu"), **dict.fromkeys(last, "meta")}
    attach_align_device_hook_on_blocks(
        model, execution_device=places, offload=dict.fromkeys((*first, *last), False), skip_keys=["labels"]
    )
    seen: list[dict[str, Any]] = []
    attention = model.model.layers[2].self_attn
    attention.register_forward_pre_hook(lambda _, __, kwargs: seen.append(kwargs), with_kwargs=True)
    inputs = {name: one for name, one in flat_inputs(flat(examples())).items() if name != "labels"}
    with flat_attention(model), pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        model(**inputs)  # accelerate's own hook copies the logits back; what is asked of is before
    assert seen[0]["example_lengths"] == LENGTHS
    assert seen[0]["cu_seq_lens_q"].device.type == "meta"


def test_labels_of_first_tokens_keep_the_loss_within_examples() -> None:
    """What the step's batches promise: the loss of a flat row is that of its examples, each shifted by itself."""
    model, ids = model_of("llama").eval(), examples()
    batch = flat(ids)
    with torch.no_grad(), flat_attention(model):
        output = model(**flat_inputs(batch), num_items_in_batch=25)
    alone = [
        ForCausalLMLoss(logits[None], one[None], 32, num_items_in_batch=torch.tensor(25))
        for logits, one in zip(output.logits[0].split(LENGTHS), ids, strict=True)
        if len(one) > 1
    ]
    torch.testing.assert_close(output.loss, sum(alone))


CUDA: dict[str, tuple[str, dict[str, Any], str]] = {
    "fp32": ("llama", {"precision": "fp32"}, "16 bits only"),
    "softcap": ("gemma2", {}, "caps its attention's scores"),
    "sinks": ("gpt_oss", {}, "attention sinks"),
    "dropout": ("gpt2", {}, "dropout in its attention"),
}


@pytest.mark.parametrize("kind", CUDA)
def test_what_the_gpus_kernel_does_not_compute_is_padded_in_words(kind: str) -> None:
    family, given, said = CUDA[kind]
    model = on_meta(family)
    assert said in str(why_not_flat_by_structure(model, given.get("precision", "bf16"), None, "cuda"))


def test_a_gpu_takes_what_its_kernel_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not_flat_by_structure(on_meta("llama"), "bf16", None, "cuda") is None
    assert why_not_flat_by_structure(on_meta("gemma2"), "bf16", "flash_attention_2", "cuda") is None
    wide = on_meta("llama")
    wide.model.layers[1].self_attn.head_dim = 512
    assert "wider than flash attention" in str(why_not_flat_by_structure(wide, "bf16", None, "cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert "older than flash attention" in str(why_not_flat_by_structure(on_meta("llama"), "bf16", None, "cuda"))
    monkeypatch.setattr(flat_structure, "varlen", lambda: None)
    assert "Install torch 2.10" in str(why_not_flat_by_structure(on_meta("llama"), "bf16", None, "cuda"))


def test_flash_attention_is_left_to_transformers() -> None:
    model = on_meta("llama")
    model.config = deepcopy(model.config)  # all models of the family share it
    model.config._attn_implementation_internal = "flash_attention_2"
    with flat_attention(model):
        assert model.config._attn_implementation == "flash_attention_2"


def test_a_model_and_its_parts_get_back_what_each_had(caplog: pytest.LogCaptureFixture) -> None:
    from tests.modeling.families import gemma3

    model = gemma3()
    model.set_attn_implementation({"text_config": "eager", "vision_config": "sdpa"})
    with caplog.at_level(logging.WARNING), flat_attention(model):
        assert model.config.text_config._attn_implementation == FLAT
    assert model.config.text_config._attn_implementation == "eager"
    assert model.config.vision_config._attn_implementation == "sdpa"
    assert isinstance(model, PreTrainedModel)
