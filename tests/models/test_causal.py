"""Models that write on from their text are told from all others by `config.json` alone, without torch."""

from __future__ import annotations

import pytest

from lora_backend.errors import ModelError
from lora_backend.models.catalogue import catalogue
from lora_backend.models.causal import refuse_other_kinds, why_not_causal


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "t5"}, "an encoder-decoder (t5)"),
        ({"model_type": "bart"}, "an encoder-decoder (bart)"),
        ({"model_type": "bert"}, "an encoder, which reads text and writes none (bert)"),
        ({"model_type": "modernbert"}, "an encoder, which reads text and writes none (modernbert)"),
        ({"model_type": "whisper"}, "a model of speech (whisper)"),
        ({"model_type": "qwen2_5_vl"}, "a vision-language model that transformers has no text class for (qwen2_5_vl)"),
        ({"model_type": "llava"}, "a vision-language model that transformers has no text class for (llava)"),
        ({"model_type": "clip"}, "a model of another kind (clip)"),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_sentence(config: dict[str, str], kind: str) -> None:
    with pytest.raises(ModelError) as raised:
        refuse_other_kinds(config)
    said = "The model is {}; only causal language models, such as Llama or Qwen3, are trained here."
    assert str(raised.value) == said.format(kind)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gemma3"},  # vision-language, with a class that writes text
        {"model_type": "bert", "is_decoder": True},
        {"model_type": "whisper", "is_encoder_decoder": False},  # its decoder alone
        {"model_type": "nobody-knows-it"},  # who builds it says so
        {"model_type": 3},
        {},
    ],
)
def test_what_may_be_one_is_not_refused(config: dict[str, object]) -> None:
    assert why_not_causal(config) is None


def test_no_model_of_the_catalogue_is_refused() -> None:
    assert [model.name for model in catalogue() if why_not_causal(model.config)] == []
