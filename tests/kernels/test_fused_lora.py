"""A LoRA layer as one function computes what PEFT's own code computes, and leaves to it what it does not."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, ModelHook, add_hook_to_module
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import Linear
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from lora_backend.kernels import fused_lora as kernel
from lora_backend.kernels.fused_lora import FusedLoraLinear, use_fused_lora
from lora_backend.modeling.rank_check import check_lora_r_consistency

LLAMA = LlamaConfig(
    vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, attention_bias=True,
)  # fmt: skip
GPT2 = GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2)
PATTERNS = {"rank_pattern": {"k_proj": 8, "0.mlp.up_proj": 3}, "alpha_pattern": {"v_proj": 5}}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each call that is computed as one function."""
    seen: list[int] = []
    plain = kernel.fused_lora

    def counted(*arguments: Any) -> torch.Tensor:
        seen.append(1)
        return plain(*arguments)

    monkeypatch.setattr(kernel, "fused_lora", counted)
    return seen


def adapted(model: nn.Module, **options: Any) -> Any:
    torch.manual_seed(0)
    chosen = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False, "task_type": "CAUSAL_LM", **options}
    return get_peft_model(model, LoraConfig(**chosen))


def llama(**options: Any) -> Any:
    torch.manual_seed(3)
    return adapted(LlamaForCausalLM(LLAMA), **options)


def one_layer(**options: Any) -> tuple[nn.Module, Any]:
    """A model of one LoRA layer, 24 → 40, and that layer."""
    torch.manual_seed(3)
    model = adapted(nn.Sequential(nn.Linear(24, 40)), target_modules=["0"], task_type=None, **options)
    return model, model.base_model.model[0]


def gradients(model: nn.Module, run: Callable[[nn.Module], torch.Tensor]) -> dict[str, torch.Tensor]:
    """The loss, and the gradients of all that trains."""
    model.zero_grad(set_to_none=True)
    loss = run(model)
    loss.backward()
    found = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    return {"loss": loss.detach(), **found}


def of_tokens(model: nn.Module) -> torch.Tensor:
    ids = torch.randint(0, 40, (2, 9), generator=torch.Generator().manual_seed(7))
    loss: torch.Tensor = model(input_ids=ids, labels=ids)["loss"]
    return loss


def assert_alike(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], tolerance: float = 2e-5) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert (found[name] - value).norm() <= tolerance * value.norm() + 1e-12, name


@pytest.mark.parametrize(
    "options",
    [{}, PATTERNS, {"use_rslora": True, "lora_alpha": 7}, {"target_modules": ["q_proj", "lm_head"]}],
    ids=["plain", "patterns", "rslora", "head"],
)
def test_a_model_has_the_loss_and_the_gradients_of_pefts_own_code(options: dict[str, Any], calls: list[int]) -> None:
    model = llama(**options)
    wanted = gradients(model, of_tokens)
    count = use_fused_lora(model)
    found = gradients(model, of_tokens)
    assert (len(calls), count.others) == (count.layers, ())
    assert count.layers == (3 if "target_modules" in options else 14)
    assert_alike(found, wanted)
    assert all(found[name].dtype == torch.float32 for name in found)


def test_a_linear_layer_that_keeps_its_weight_the_other_way_round(calls: list[int]) -> None:
    torch.manual_seed(3)
    model = adapted(GPT2LMHeadModel(GPT2).eval(), fan_in_fan_out=True)
    wanted = gradients(model, of_tokens)
    assert use_fused_lora(model).layers == 8
    assert_alike(gradients(model, of_tokens), wanted)
    assert len(calls) == 8


def test_nothing_is_computed_for_an_input_that_needs_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model, layer = one_layer()
    use_fused_lora(model)
    products: list[str] = []

    class Watched(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            products.extend([str(func)] if "mm" in str(func) else [])
            return func(*args, **(kwargs or {}))

    for needs, forward_and_backward in ((False, 6), (True, 8)):
        x = torch.randn(5, 24, requires_grad=needs)
        products.clear()
        with Watched():
            model(x).sum().backward()
        assert len(products) == forward_and_backward
        assert (x.grad is not None) == needs
    assert layer.base_layer.weight.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32 base", "bf16 base"])
@pytest.mark.parametrize(("rows", "inner", "outer", "rank"), [(7, 24, 40, 4), (130, 96, 64, 16), (513, 64, 160, 8)])
def test_in_bf16_its_error_is_no_larger_than_pefts(
    dtype: torch.dtype, rows: int, inner: int, outer: int, rank: int
) -> None:
    """Against the same layer in fp32 with the same input; over 40 seeds, as ‖error‖ of all of them together."""
    errors: dict[tuple[str, bool], float] = {}
    for seed in range(40):
        torch.manual_seed(seed)
        base = nn.Linear(inner, outer).to(dtype)
        plain = adapted(nn.Sequential(base), r=rank, target_modules=["0"], task_type=None)
        torch.manual_seed(seed)
        for name, one in plain.named_parameters():
            if "lora_" in name:
                nn.init.normal_(one, std=0.1)
        fused, exact = copy.deepcopy(plain), copy.deepcopy(plain).float()
        use_fused_lora(fused)
        x, grad = torch.randn(rows, inner).to(dtype), torch.randn(rows, outer).to(torch.bfloat16)

        def run(model: nn.Module, x: torch.Tensor = x, grad: torch.Tensor = grad, half: bool = True) -> Any:
            inputs = (x if half else x.float()).requires_grad_()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                result = model(inputs)
            result.backward(grad.to(result.dtype))
            held = {n.rpartition("lora_")[2]: p.grad for n, p in model.named_parameters() if p.grad is not None}
            taken, inputs.grad = inputs.grad, None
            return {"y": result.detach(), "x": taken, **held}

        wanted = run(exact, half=False)
        for is_fused, model in ((False, plain), (True, fused)):
            for name, value in run(model).items():
                key = (name, is_fused)
                errors[key] = errors.get(key, 0) + float((value.float() - wanted[name].float()).square().sum())
    names = {name for name, _ in errors}
    assert len(names) == 4
    for name in names:
        assert errors[name, True] ** 0.5 <= 1.1 * errors[name, False] ** 0.5, name


def _hook(*_: Any) -> None:
    return None


def _other_hook(layer: Any) -> None:
    add_hook_to_module(layer.base_layer, ModelHook())


def _two_active(model: Any) -> None:
    torch.manual_seed(6)
    model.add_adapter("second", LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))
    model.base_model.set_adapter(["default", "second"])


OTHERS: dict[str, tuple[dict[str, Any], Callable[[Any, Any], Any]]] = {
    kernel.WITH_DROPOUT: ({"lora_dropout": 0.5}, lambda model, layer: None),
    kernel.VARIANT: ({"use_dora": True}, lambda model, layer: None),
    kernel.WITH_BIAS: ({"lora_bias": True}, lambda model, layer: None),
    kernel.TRAINED_BASE: ({"bias": "all"}, lambda model, layer: None),
    kernel.NOT_ONE: ({}, lambda model, layer: _two_active(model)),
    kernel.SWITCHED_OFF: ({}, lambda model, layer: model.base_model.disable_adapter_layers()),
    f"{kernel.SWITCHED_OFF}: merged": ({}, lambda model, layer: model.merge_adapter()),
    kernel.HOOKED: ({}, lambda model, layer: layer.base_layer.register_forward_hook(_hook)),
    f"{kernel.HOOKED}: A": ({}, lambda model, layer: layer.lora_A["default"].register_forward_pre_hook(_hook)),
    f"{kernel.HOOKED}: B": ({}, lambda model, layer: layer.lora_B["default"].register_full_backward_hook(_hook)),
    f"{kernel.HOOKED}: dropout": ({}, lambda model, layer: layer.lora_dropout["default"].register_forward_hook(_hook)),
    f"{kernel.HOOKED}: accelerate": ({}, lambda model, layer: _other_hook(layer)),
}


@pytest.mark.parametrize("why", OTHERS)
def test_what_it_does_not_compute_goes_pefts_own_way_and_is_said(why: str, calls: list[int]) -> None:
    """Made so before and after it was put in; the same bits as PEFT's, and not one call of the function."""
    options, change = OTHERS[why]
    for is_before in (True, False):
        plain, layer = one_layer(**options)
        fused, fused_layer = one_layer(**options)
        change(plain, layer)
        if is_before:
            change(fused, fused_layer)
        count = use_fused_lora(fused)
        if not is_before:
            change(fused, fused_layer)
        if is_before or options:
            assert (count.layers, count.others) == (0, ((why.partition(":")[0], 1),))
            assert why.partition(":")[0] in str(count)
        results = []
        for model in (plain, fused):
            torch.manual_seed(5)
            results.append(model(torch.randn(6, 24)))
        assert torch.equal(*results)
    assert calls == []


def test_what_comes_with_a_call_goes_pefts_own_way(calls: list[int]) -> None:
    model, layer = one_layer()
    x = torch.randn(2, 3, 24)
    wanted = layer(x, adapter_names=["default", "__base__"])
    use_fused_lora(model)
    assert torch.equal(layer(x, adapter_names=["default", "__base__"]), wanted)
    assert calls == []
    layer(x)
    assert calls == [1]


def test_it_is_decided_anew_at_each_call(calls: list[int]) -> None:
    model, layer = one_layer(lora_dropout=0.5)
    use_fused_lora(model)
    x = torch.randn(6, 24)
    model.train()(x)
    assert calls == []
    model.eval()
    before = model(x)
    assert calls == [1]
    with model.disable_adapter():
        assert torch.equal(model(x), layer.base_layer(x))
    layer.scaling["default"] *= 2
    twice = model(x)
    assert calls == [1, 1]
    torch.testing.assert_close(twice - layer.base_layer(x), 2 * (before - layer.base_layer(x)))


def test_a_layer_that_is_not_linear_or_not_plain_is_counted_and_left() -> None:
    torch.manual_seed(3)

    class Own(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 2

    parts = nn.Sequential(nn.Embedding(9, 24), Own(24, 40), nn.Linear(40, 8))
    model = adapted(parts, target_modules=["0", "1", "2"], task_type=None)
    ids = torch.tensor([1, 2])
    wanted = model(ids)
    count = use_fused_lora(model)
    assert count == kernel.FusedCount(1, ((kernel.OTHER_BASE, 2),))
    torch.testing.assert_close(model(ids), wanted)
    assert str(count) == (
        "1 LoRA layers compute as one function each; 2 by PEFT's own code: they do not stand on a plain linear layer"
    )


def test_base_and_adapter_stay_what_they_are(tmp_path: Path) -> None:
    plain, model = llama(**PATTERNS), llama(**PATTERNS)
    use_fused_lora(model)
    assert str(model) == str(plain)
    assert all(isinstance(one, Linear) for one in model.modules() if type(one) is FusedLoraLinear)
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert model.state_dict().keys() == plain.state_dict().keys()
    report = {"r": 4, "target_modules": "all-linear", **PATTERNS}
    assert check_lora_r_consistency(model, report) == check_lora_r_consistency(plain, report)
    wanted = of_tokens(model)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(of_tokens(copied), wanted)
    model.save_pretrained(str(tmp_path))
    torch.manual_seed(3)
    loaded = PeftModel.from_pretrained(LlamaForCausalLM(LLAMA), str(tmp_path))
    torch.testing.assert_close(of_tokens(loaded), wanted)
    merged = model.merge_and_unload()
    torch.testing.assert_close(of_tokens(merged), wanted)


def test_accelerates_hooks_may_come_before_and_behind_it(calls: list[int]) -> None:
    """Those of a layer split: they move inputs to where the layer is."""
    for is_before in (True, False):
        model, layer = one_layer()
        x = torch.randn(6, 24)
        wanted = model(x)
        hooked = layer.base_layer if is_before else layer
        if is_before:
            add_hook_to_module(hooked, AlignDevicesHook(execution_device="cpu"))
        assert use_fused_lora(model).layers == 1
        if not is_before:
            add_hook_to_module(hooked, AlignDevicesHook(execution_device="cpu"))
        calls.clear()
        torch.testing.assert_close(model(x), wanted)
        assert calls == [1]


def test_what_accelerate_keeps_elsewhere_goes_pefts_own_way(calls: list[int]) -> None:
    model, layer = one_layer()
    x = torch.randn(6, 24)
    wanted = model(x)
    weights = {name: one.detach().clone() for name, one in layer.base_layer.named_parameters()}
    add_hook_to_module(layer.base_layer, AlignDevicesHook(execution_device="cpu", offload=True, weights_map=weights))
    assert use_fused_lora(model).others == ((kernel.HOOKED, 1),)
    torch.testing.assert_close(model(x), wanted)
    assert calls == []


@pytest.mark.parametrize("is_reentrant", [False, True])
@pytest.mark.parametrize("is_half", [False, True])
def test_checkpointing_gives_the_same_bits(is_reentrant: bool, is_half: bool) -> None:
    model = llama().train()
    use_fused_lora(model)

    def run(model: Any) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_half):
            return of_tokens(model)

    wanted = gradients(model, run)
    again = gradients(model, run)
    assert all(torch.equal(again[name], value) for name, value in wanted.items())
    model.enable_input_require_grads()
    model.base_model.model.gradient_checkpointing_enable({"use_reentrant": is_reentrant})
    found = gradients(model, run)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_a_checkpointed_layer_by_itself() -> None:
    model, layer = one_layer()
    use_fused_lora(model)
    x = torch.randn(6, 24, requires_grad=True)
    wanted = torch.autograd.grad(layer(x).square().sum(), [x, layer.lora_A["default"].weight])
    for is_reentrant in (False, True):
        result = checkpoint(layer, x, use_reentrant=is_reentrant)
        result.square().sum().backward()
        assert torch.equal(x.grad, wanted[0])
        assert torch.equal(layer.lora_A["default"].weight.grad, wanted[1])
        x.grad = layer.lora_A["default"].weight.grad = None


def test_gradients_of_several_passes_add_up_in_fp32() -> None:
    """Where each pass adds less than bf16 can hold beside the sum."""
    model, layer = one_layer()
    use_fused_lora(model)
    x = torch.ones(1, 24)
    weight = layer.lora_B["default"].weight
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x).sum().backward()
        once = weight.grad.clone()
        for _ in range(511):
            model(x).sum().backward()
    torch.testing.assert_close(weight.grad, 512 * once)


def test_tensors_without_values_pass_through(calls: list[int]) -> None:
    with torch.device("meta"):
        model, layer = one_layer()
    layer.base_layer.requires_grad_(False)
    use_fused_lora(model)
    mode = FakeTensorMode()
    convert = mode.fake_tensor_converter.from_meta_and_device
    for module in model.modules():
        for name, one in module._parameters.items():
            if one is not None:
                fake = convert(mode, one.detach(), torch.device("cpu"))
                module._parameters[name] = nn.Parameter(fake, requires_grad=one.requires_grad)
    with mode, torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.empty(6, 24)).sum().backward()
    assert layer.lora_A["default"].weight.grad.shape == (4, 24)
    assert calls == [1]


def test_torch_compile_takes_it_in_one_graph() -> None:
    model = llama()
    use_fused_lora(model)
    block = model.base_model.model.model.layers[0].mlp
    x = torch.randn(2, 5, 32)
    wanted = block(x)
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    found = compiled(x)
    torch.testing.assert_close(found, wanted)
    found.square().sum().backward()
    weight = block.up_proj.lora_A["default"].weight
    grad, weight.grad = weight.grad, None
    block(x).square().sum().backward()
    torch.testing.assert_close(grad, weight.grad)
