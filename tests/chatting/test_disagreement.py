"""KL of adapter and base for each token of an answer, against the formula on one pass over the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lora_backend.chatting import disagreement as disagreement_module
from lora_backend.chatting.columns import load_columns
from lora_backend.chatting.disagreement import disagreement
from lora_backend.runs.record.job_documents import Column
from tests.chatting.adapters import make_adapter

PROMPT = [1, 7, 9, 12, 8]
TEXT = "the door is green it leaves at noon"


@pytest.mark.parametrize("at_once", [64, 3])
def test_each_token_has_the_divergence_of_the_formula(
    at_once: int, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disagreement_module, "AT_ONCE", at_once)
    monkeypatch.setattr(disagreement_module, "READ_AT_ONCE", 2)
    folder = make_adapter(tmp_path / "a", tiny_model)
    model = load_columns(str(tiny_model), [Column(label="base"), Column(label="a", adapter=str(folder))])
    found = [token for part in disagreement(model, "a", PROMPT, TEXT) for token in part]
    assert "".join(token.text for token in found) == TEXT
    ids = model.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    given = torch.tensor([[*PROMPT, *ids]])
    logs = []
    for within in (model.use("a"), model.base()):
        with within as answering, torch.inference_mode():
            logs.append(torch.log_softmax(answering(input_ids=given).logits[0, len(PROMPT) - 1 : -1].double(), dim=-1))
    wanted = (logs[0].exp() * (logs[0] - logs[1])).sum(dim=-1)
    assert [token.kl for token in found] == pytest.approx(wanted.tolist(), rel=1e-3, abs=1e-5)
    assert min(wanted) > 0


def test_an_adapter_that_adds_nothing_disagrees_nowhere(tiny_model: Path, tmp_path: Path) -> None:
    from tests.modeling.saved import saved_adapter

    folder = saved_adapter(tmp_path / "a", tiny_model)
    model = load_columns(str(tiny_model), [Column(label="a", adapter=str(folder))])
    found = [token.kl for part in disagreement(model, "a", PROMPT, TEXT) for token in part]
    assert found == pytest.approx([0.0] * len(found), abs=1e-6)
