"""Odd models and odd sizes on the plan page: the sentence of the command line, and no traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.odd_plans import CAUSAL, NO_DEVICE, SMALLEST
from tests.pages.plan_page import SMALL, show, texts

pytestmark = pytest.mark.usefixtures("model")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vocab_size": 0}, "`vocab_size` in config.json is 0, but " + SMALLEST),
        ({"hidden_size": 2**30}, "`hidden_size` in config.json is 1073741824; the limit is"),
        ({"num_hidden_layers": 10**9}, "`num_hidden_layers` in config.json is 1000000000; the limit is 1000"),
        ({"num_hidden_layers": -4}, "`num_hidden_layers` in config.json is -4, but " + SMALLEST),
        ({"model_type": "t5"}, "an encoder-decoder (t5); " + CAUSAL),
        ({"model_type": "bert"}, "an encoder, which reads text and writes none (bert); " + CAUSAL),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 0}},
            "`bits` in the model's quantization_config is 0",
        ),
        ({"quantization_config": "nf4"}, "nothing trains on weights of that kind"),
    ],
    ids=str,
)
def test_an_odd_model_is_one_sentence(change: dict[str, Any], said: str, model: Path) -> None:
    (model / "config.json").write_text(json.dumps({**SMALL, **change}))
    at = show(model=str(model), gpus="24")
    assert not at.exception
    assert said in texts(at).replace("\\", "")


@pytest.mark.parametrize("query", [{"batch_size": str(10**12)}, {"max_length": str(10**15)}], ids=str)
def test_an_odd_size_is_one_sentence(query: dict[str, str], model: Path) -> None:
    at = show(model=str(model), gpus="24", **query)
    assert not at.exception
    assert NO_DEVICE in texts(at)


def test_an_optimizer_without_figures_is_named_beside_the_plan(model: Path) -> None:
    at = show(model=str(model), gpus="24", optim="grokadamw")
    assert "is not known here, so the states of AdamW are assumed" in texts(at)
