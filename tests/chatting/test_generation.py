"""Our loop against transformers' own `generate`: the same tokens, greedy and drawn; and how answers end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, MambaConfig

from lora_backend.chats.documents import Sampling
from lora_backend.chatting import generation
from lora_backend.chatting.generation import Piece, stream_reply
from lora_backend.errors import ModelError
from tests.modeling.saved import saved_base

PROMPT = [1, 7, 9, 12, 8]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


def pieces(model: Any, tokenizer: Any, stops: tuple[int, ...] = (), prompt: list[int] = PROMPT, max_positions: int | None = None, **sampling: Any) -> list[Piece]:  # fmt: skip
    return list(stream_reply(model, prompt, Sampling(**sampling), tokenizer=tokenizer, stops=stops, max_positions=max_positions))  # fmt: skip


def tokens(found: list[Piece]) -> list[int]:
    return [piece.token for piece in found if piece.token is not None]


def generated(model: Any, prompt: list[int] = PROMPT, seed: int = 0, **options: Any) -> list[int]:
    torch.manual_seed(seed)
    given = torch.tensor([prompt])
    options = {"eos_token_id": None, "pad_token_id": 3, **options}
    output = model.generate(input_ids=given, attention_mask=torch.ones_like(given), **options)
    return [int(token) for token in output[0, len(prompt) :]]


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_is_generate_token_for_token(penalty: float, model: Any, tokenizer: Any) -> None:
    ours = pieces(model, tokenizer, max_new_tokens=60, repetition_penalty=penalty)
    assert tokens(ours) == generated(model, max_new_tokens=60, do_sample=False, repetition_penalty=penalty)
    assert ours[-1].ended == "length"


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "mixtral", "falcon", "bloom"])
def test_other_families_too(family: str, tokenizer: Any, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(saved_base(tmp_path / "base", family)).eval()
    ours = pieces(model, tokenizer, max_new_tokens=10)
    assert tokens(ours) == generated(model, max_new_tokens=10, do_sample=False)


def test_a_model_without_such_a_cache_reads_everything_anew_and_is_right(tokenizer: Any) -> None:
    config = MambaConfig(vocab_size=32, hidden_size=16, state_size=4, num_hidden_layers=2)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    ours = pieces(model, tokenizer, max_new_tokens=6)
    assert tokens(ours) == generated(model, max_new_tokens=6, do_sample=False)


@pytest.mark.parametrize(
    "how",
    [
        {"temperature": 1.0},
        {"temperature": 0.7, "top_p": 0.8},
        {"temperature": 1.5, "top_k": 5, "repetition_penalty": 1.2},
    ],
)
def test_a_drawn_answer_is_that_of_generate_with_the_same_seed(how: Any, model: Any, tokenizer: Any) -> None:
    options = {"top_k": 0, "top_p": 1.0, **how}
    theirs = generated(model, seed=11, max_new_tokens=40, do_sample=True, **options)
    assert tokens(pieces(model, tokenizer, max_new_tokens=40, seed=11, **how)) == theirs
    assert tokens(pieces(model, tokenizer, max_new_tokens=40, seed=12, **how)) != theirs


def test_two_answers_in_turn_are_each_what_it_is_alone(model: Any, tokenizer: Any) -> None:
    how: dict[str, Any] = {"temperature": 1.0, "max_new_tokens": 20}
    alone = [tokens(pieces(model, tokenizer, seed=seed, **how)) for seed in (1, 2)]
    streams = [
        stream_reply(model, PROMPT, Sampling(seed=seed, **how), tokenizer=tokenizer, stops=()) for seed in (1, 2)
    ]
    in_turn = list(zip(*streams, strict=True))
    assert [tokens(list(column)) for column in zip(*in_turn, strict=True)] == alone


def test_a_long_prompt_is_read_in_parts_and_says_the_same(
    model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pieces(model, tokenizer, max_new_tokens=10)
    monkeypatch.setattr(generation, "READ_AT_ONCE", 2)
    in_parts = pieces(model, tokenizer, max_new_tokens=10)
    assert tokens(in_parts) == tokens(whole)
    assert [piece.token for piece in in_parts[:2]] == [None, None], "between two parts others have their turn"


def test_an_end_mark_a_stop_text_and_the_length_end_it(model: Any, tokenizer: Any) -> None:
    whole = pieces(model, tokenizer, max_new_tokens=20)
    ids, text = tokens(whole), "".join(piece.text for piece in whole)
    assert text == tokenizer.decode(ids, skip_special_tokens=True)
    mark = ids[5]
    ended = pieces(model, tokenizer, (mark,), max_new_tokens=20)
    assert (ended[-1].ended, tokens(ended)) == ("end", ids[: ids.index(mark) + 1])
    assert "".join(piece.text for piece in ended) == tokenizer.decode(ids[: ids.index(mark)], skip_special_tokens=True)
    words = text.split()
    stop = f"{words[2]} {words[3][:2]}"
    stopped = pieces(model, tokenizer, max_new_tokens=20, stop=[stop])
    assert stopped[-1].ended == "stop"
    assert "".join(piece.text for piece in stopped) == text[: text.index(stop)]


def test_an_answer_ends_where_the_model_reads_no_further(model: Any, tokenizer: Any) -> None:
    found = pieces(model, tokenizer, max_new_tokens=50, max_positions=len(PROMPT) + 7)
    assert (len(tokens(found)), found[-1].ended) == (7, "length")


def test_a_model_of_nans_is_one_sentence(tiny_model: Path, tokenizer: Any) -> None:
    broken = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="produces NaN"):
        pieces(broken, tokenizer, max_new_tokens=3)


def test_nothing_is_computed_that_is_not_asked_for(model: Any, tokenizer: Any) -> None:
    began = time.monotonic()
    stream: Any = stream_reply(model, PROMPT, Sampling(max_new_tokens=32_768), tokenizer=tokenizer, stops=())
    assert next(stream).token is not None
    stream.close()
    assert time.monotonic() - began < 60
