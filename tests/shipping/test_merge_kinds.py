"""Every kind of adapter that PEFT saves: merged as PEFT merges it, right where PEFT's own merge is not, or refused by name."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import torch

from lora_backend.errors import ModelError
from tests.shipping.merging_cases import adapted, load, logits, merge, peft_merged, same_parameters
from tests.verification.bases import Bases
from tests.verification.intact import INTACT, save_adapter

pytestmark = pytest.mark.usefixtures("workspace")

REFUSED = {
    "switched on by tokens": "alora_invocation_tokens",
    "bias of B": None,
    "vera": "VERA",
    "loha": "LOHA",
    "ia3": "IA3",
    "prompt tuning": "PROMPT_TUNING",
}
"""What cannot be merged, and a word of the sentence that says so; None: merged all the same."""
TO_THE_BIT = (
    "plain", "rank pattern", "alpha pattern", "rank-stabilized by patterns", "dora", "dora on an embedding", "all biases",
    "biases of its layers", "bias of B", "head trained whole", "a module with children trained whole", "embedding and head as targets",
    "both embeddings saved beside", "eva", "in bf16", "in fp16", "pickled", "gpt2 with dora", "gpt2 with bias of B",
    "experts by their old names", "experts by their parameters", "experts one by one", "gpt_oss", "gpt_oss, all linear layers",
    "deepseek_v3", "text of a vision-language model",
)  # fmt: skip
UNTIED = (
    "embedding of a tied model", "head of a tied model trained whole", "head of a tied model as a target",
)  # fmt: skip
STILL_TIED = ("both ends of a tied weight", "tied weight trained whole")
IN_MEMORY = ("pissa", "olora", "adalora within its budget", "some tokens", "kasa", "block-diagonal")


@pytest.mark.parametrize("name", TO_THE_BIT)
def test_a_merged_model_has_the_tensors_of_pefts_own_merge(name: str, bases: Bases, tmp_path: Path) -> None:
    base = bases.folder(INTACT[name].base)
    adapter = save_adapter(INTACT[name], bases, tmp_path / "adapter")
    result = merge(base, adapter, tmp_path / "merged")
    assert same_parameters(load(tmp_path / "merged"), peft_merged(base, adapter)) == {}
    assert {proof.code: proof.passed for proof in result.proofs} == {"tensors": True, "logits": True}


@pytest.mark.parametrize("name", [*UNTIED, *STILL_TIED, *IN_MEMORY])
def test_a_merged_model_answers_as_the_adapter_on_its_base(name: str, bases: Bases, tmp_path: Path) -> None:
    base = bases.folder(INTACT[name].base)
    adapter = save_adapter(INTACT[name], bases, tmp_path / "adapter")
    result = merge(base, adapter, tmp_path / "merged")
    merged, expected = load(tmp_path / "merged"), logits(adapted(base, adapter))
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, logits(load(base)), rtol=0, atol=2e-5)
    if name in (*UNTIED, *STILL_TIED):
        assert merged.config.tie_word_embeddings is (name in STILL_TIED)
    assert {proof.code: proof.passed for proof in result.proofs}["logits"] is True


@pytest.mark.parametrize("name", [name for name, word in REFUSED.items() if word])
def test_what_cannot_be_merged_is_refused_by_name(name: str, bases: Bases, tmp_path: Path) -> None:
    base = bases.folder(INTACT[name].base)
    adapter = save_adapter(INTACT[name], bases, tmp_path / "adapter")
    with pytest.raises(ModelError, match=REFUSED[name]):
        merge(base, adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.soak
@pytest.mark.parametrize("name", INTACT)
def test_every_kind_is_right_or_refused(name: str, bases: Bases, tmp_path: Path) -> None:
    base = bases.folder(INTACT[name].base)
    adapter = save_adapter(INTACT[name], bases, tmp_path / "adapter")
    with suppress(ModelError):
        merge(base, adapter, tmp_path / "merged")
    if (tmp_path / "merged").exists():  # else it was refused before the first byte
        expected = logits(adapted(base, adapter))
        torch.testing.assert_close(logits(load(tmp_path / "merged")), expected, rtol=1e-4, atol=1e-5)
