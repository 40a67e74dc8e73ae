"""What would be refused of the loaded model is a blocker already: the same code builds the model without its bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ExpressionError, ModelError, UntrainableError
from lora_backend.installation import this_installation
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.load import load_model
from lora_backend.modeling.lora_layers import lora_layers_of_model
from lora_backend.modeling.profiling import tracer
from lora_backend.preflight.blockers import blocker_of
from lora_backend.preflight.plan_question import model_facts
from lora_backend.preflight.startable import CannotStartError, judge, startable
from lora_backend.worker_client import WorkerClient
from tests.drawn.outcomes import outcome_of
from tests.drawn.world import World
from tests.resolving import from_here, launch_from_browser

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("gemma2", {"attn_implementation": "sdpa"}, "untrainable", "attn_implementation", "scaled_dot_product_attention"),
    (
        "apertus",
        {"target_modules": ["layers.9.mlp.up_proj"]},
        "unmatched_target",
        "target_modules",
        "matches no module",
    ),
    ("falcon", {"quantization": "nf4"}, "untrainable", "quantization", "No layer of the model can be loaded"),
    ("llama", {"init_lora_weights": "pissa", "r": 33}, "narrow_start", "init_lora_weights", "only 16, not 33"),
]


@pytest.fixture
def world(workspace: Path, tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize(("family", "keys", "code", "key", "said"), CASES, ids=[case[0] for case in CASES])
def test_what_the_trainer_would_refuse_blocks_the_start(
    family: str, keys: dict[str, Any], code: str, key: str, said: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"model_name": str(world.model(family)), "dataset": str(world.dataset), "precision": "fp32", **keys}
    installation, text = this_installation(), dump_yaml(values)
    (blocker,) = startable(judge(from_here(text, installation)), tracer(installation)).blockers
    assert (blocker.code, blocker.key) == (code, key)
    assert said in blocker.message.text("en")
    with pytest.raises((UntrainableError, CannotStartError), match=said):
        launch_from_browser(text, installation, tracer(installation))
    assert not installation.runs.exists(), "nothing was made"
    path = world.root / "c.yaml"
    path.write_text(text)
    assert main(["train", str(path), "--json"]) == 1
    told = capsys.readouterr()
    assert said in told.err
    for log in installation.runs.glob("*/train.log"):  # made only where the model's modules were not known before
        assert f"loading {values['model_name']} in" not in log.read_text(), "no weights were read"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"init_lora_weights": "pissa", "r": 33}, "has only 16, not 33"),
        ({"init_lora_weights": "olora", "target_modules": ["q_proj"], "rank_pattern": {"q_proj": 40}}, "has only 32, not 40"),
        ({"init_lora_weights": "olora", "target_modules": ["q_proj"], "r": 32}, None),
        ({"init_lora_weights": "pissa", "target_modules": ["embed_tokens"], "r": 40}, None),
        ({"init_lora_weights": "gaussian", "r": 64}, None),
        ({"init_lora_weights": "olora", "quantization": "nf4", "r": 8}, None),
    ],
)  # fmt: skip
def test_a_start_out_of_the_weights_has_no_more_ranks_than_these(
    keys: dict[str, Any], said: str | None, world: World
) -> None:
    config = TrainingConfig(model_name=str(world.model("llama")), precision="fp32", **keys)
    model = load_model(config)
    if said is None:
        layers = lora_layers_of_model(attach_adapter(model, config))
        assert {layer.layer_r for layer in layers} == {config.r}
        return
    with pytest.raises(ModelError, match=said):
        attach_adapter(model, config)


def test_an_expression_that_takes_too_long_is_no_fault_of_the_device_map() -> None:
    error = ExpressionError("The expression {shown} takes too long.", pattern="(a+)+")
    blocker = blocker_of(error, judge(from_here("model_name: m")).config)
    assert (blocker.code, blocker.key) == ("expression_too_slow", "target_modules")


def test_the_torch_process_answers_so_and_is_not_taken_for_broken(world: World) -> None:
    family, keys, _, key, said = CASES[0]
    config = {"model_name": str(world.model(family)), "precision": "fp32", **keys}
    client = WorkerClient()
    try:
        with pytest.raises(UntrainableError, match=said) as raised:
            client.ask("profile", {"facts": model_facts(config["model_name"], this_installation()), "config": config})
    finally:
        client.close()
    assert raised.value.key == key


def test_a_kernel_that_cannot_train_without_a_gpu_is_a_blocker(world: World) -> None:
    values = {"model_name": str(world.model("llama")), "dataset": str(world.dataset), "precision": "fp32"}
    outcome = outcome_of(values | {"attn_implementation": "flex_attention"}, world.workspace)
    assert (outcome.kind, outcome.said) == ("blocked", "kernel_without_gpu")
