"""The optimizer that a config names: one kernel where torch has it, the same sums, and the same on a resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load_file
from torch.amp.grad_scaler import GradScaler

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import RunError
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.load import load_model
from lora_backend.training.assembly import arguments_of, make_optimizer
from tests.run_files import points_of
from tests.training.helpers import adapter_bytes, curve, resumed, run, stopped_at

Make = Callable[..., dict[str, Any]]


def made(config: dict[str, Any]) -> tuple[PeftModel, torch.optim.Optimizer]:
    asked = TrainingConfig(**config)
    torch.manual_seed(0)
    model = attach_adapter(load_model(asked), asked)
    return model, make_optimizer(model, asked, arguments_of(asked))


def test_without_a_word_it_is_adamw_in_one_kernel_and_trains_what_adamw_trains(config: Make, workspace: Path) -> None:
    assert made(config())[1].param_groups[0]["fused"] is True
    assert not made(config(optim="adamw_torch"))[1].param_groups[0]["fused"]
    folders = [run(workspace, config(weight_decay=0.1, **given)) for given in ({}, {"optim": "adamw_torch"})]
    losses = [[row["loss"] for row in points_of(folder) if "loss" in row] for folder in folders]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    saved = [load_file(folder.adapter / "adapter_model.safetensors") for folder in folders]
    assert all(torch.allclose(tensor, saved[1][name], atol=1e-4) for name, tensor in saved[0].items())


def test_where_torch_lacks_the_kernel_it_is_adamw_and_says_so(
    config: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = torch.optim.AdamW

    class Without(real):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if kwargs.get("fused"):
                raise RuntimeError("`fused=True` requires all the params to be on a supported device")
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(torch.optim, "AdamW", Without)
    _, optimizer = made(config())
    assert not optimizer.param_groups[0]["fused"]
    assert "adamw_torch" in caplog.text
    assert "supported device" in caplog.text


def test_fp16_gradients_are_unscaled_once_and_a_step_that_overflows_is_left_out(config: Make) -> None:
    """As the loop has it: unscaled, clipped, and the scaler decides whether the step is taken."""
    results = []
    for optim in ("adamw_torch", "adamw_torch_fused"):
        model, optimizer = made(config(optim=optim))
        scaler = GradScaler("cpu", init_scale=8.0)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for factor in (1.0, float("inf"), 2.0):
            for parameter in trained:
                parameter.grad = torch.full_like(parameter, factor) * scaler.get_scale()
            scaler.scale(torch.zeros(()))
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            before = [parameter.detach().clone() for parameter in trained]
            scaler.step(optimizer)
            scaler.update()
            is_same = all(torch.equal(one, now) for one, now in zip(before, trained, strict=True))
            assert is_same == (factor == float("inf")), optim
        results.append(trained)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*results, strict=True))


def test_a_run_that_named_the_other_word_goes_on_in_one_kernel(config: Make, workspace: Path) -> None:
    """As one does that was begun when it was the default: the states are the same."""
    values = config(optim="adamw_torch", save_steps=2)
    whole = run(workspace, values)
    folder = resumed(stopped_at(workspace, values, 4), {"optim": "adamw_torch_fused"})
    assert folder.state().state == "finished"
    losses = [[row["loss"] for row in points_of(one) if "loss" in row] for one in (whole, folder)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_resume_under_each_word_is_bit_identical(config: Make, workspace: Path) -> None:
    for optim in ("adamw_torch", "adamw_torch_fused"):
        values = config(optim=optim, save_steps=2, lora_dropout=0.1)
        whole, again = run(workspace, values), resumed(stopped_at(workspace, values, 3))
        assert (curve(whole), adapter_bytes(whole)) == (curve(again), adapter_bytes(again))


# ---------------------------------------------------------------------------------------------------- LoRA+


def rates(model: PeftModel, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Of every trained parameter, by its name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[one]: group["lr"] for group in optimizer.param_groups for one in group["params"]}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"use_dora": True, "bias": "lora_only"},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"modules_to_save": ["embed_tokens", "norm"]},
        {"optim": "adafactor"},
    ],
    ids=str,
)
def test_every_parameter_has_the_rate_that_peft_gives_it(keys: dict[str, Any], config: Make) -> None:
    model, optimizer = made(config(loraplus_lr_ratio=8.0, **keys))
    peft = create_loraplus_optimizer(model, torch.optim.AdamW, lr=2e-2, loraplus_lr_ratio=8.0)
    assert rates(model, optimizer) == rates(model, peft)
    assert optimizer.param_groups[0]["lr"] == 2e-2, "the first group's rate is the one that is shown"
    plain_model, plain = made(config(**keys))
    assert set(rates(plain_model, plain).values()) == {2e-2}
    held = [set(rates(*one)) for one in ((model, optimizer), (plain_model, plain))]
    assert held[0] == held[1], "none is left out"
    decays = [
        {name for group in one.param_groups if group["weight_decay"] for name in map(names.get, group["params"])}
        for one, names in (
            (made_one, {parameter: name for name, parameter in of.named_parameters()})
            for of, made_one in (
                made(config(weight_decay=0.1, **keys, **more)) for more in ({}, {"loraplus_lr_ratio": 8.0})
            )
        )
    ]
    assert decays[0] == decays[1] != set()


def test_b_learns_at_its_own_rate_and_the_curve_shows_that_of_a(config: Make, workspace: Path) -> None:
    values = config(num_epochs=1, lr_scheduler_type="linear", warmup_ratio=0.5)
    plain, plus = run(workspace, values), run(workspace, values | {"loraplus_lr_ratio": 4.0})
    shown = [[row["learning_rate"] for row in points_of(folder)] for folder in (plain, plus)]
    assert shown[0] == shown[1]
    assert adapter_bytes(plain) != adapter_bytes(plus)


@pytest.mark.parametrize(
    "keys",
    [{"loraplus_lr_ratio": 4.0}, {"neftune_noise_alpha": 5.0}, {"neftune_noise_alpha": 5.0, "gradient_checkpointing": True}, {"label_smoothing_factor": 0.1}],
    ids=str,
)  # fmt: skip
def test_a_resume_under_each_recipe_is_bit_identical(keys: dict[str, Any], config: Make, workspace: Path) -> None:
    values = config(save_steps=2, target_batch_size=8, lr_scheduler_type="cosine", **keys)
    whole, again = run(workspace, values), resumed(stopped_at(workspace, values, 3))
    assert (curve(whole), adapter_bytes(whole)) == (curve(again), adapter_bytes(again))
    assert adapter_bytes(whole) != adapter_bytes(run(workspace, {key: values[key] for key in values.keys() - keys}))


def test_with_more_epochs_each_group_goes_on_in_its_own_schedule(config: Make, workspace: Path) -> None:
    from lora_backend.training_state import resume_point

    values = config(loraplus_lr_ratio=4.0, save_steps=2, num_epochs=2)
    found: list[list[float]] = []
    real = resume_point.load_state

    def watched(state: Any, *args: Any) -> None:
        real(state, *args)
        found.append([group["lr"] for group in state.optimizer.param_groups])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lora_backend.training.recipe.load_state", watched)
        folder = resumed(run(workspace, values), {"num_epochs": 4})
    assert folder.state().state == "finished"
    (groups,) = found
    assert groups[2] == pytest.approx(4 * groups[0])
    assert 0 < groups[0] < 2e-2


def test_another_ratio_is_refused_on_resume(config: Make, workspace: Path) -> None:
    folder = stopped_at(workspace, config(loraplus_lr_ratio=4.0, save_steps=2), 3)
    with pytest.raises(RunError, match="loraplus_lr_ratio"):
        resumed(folder, {"loraplus_lr_ratio": 8.0})
