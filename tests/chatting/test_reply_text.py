"""Text that comes token by token: whole characters, and stop texts wherever the borders are."""

from __future__ import annotations

from typing import Any

import pytest

from lora_backend.chatting.reply_text import StopTexts, TokenTexts

TEXTS = ["plain words here", "naïve café 東京 😀 a👩‍👩‍👧b", "  two  spaces\n\nlines\t", "é" * 30]


@pytest.fixture(scope="module")
def bytewise() -> Any:
    """A tokenizer whose tokens are bytes, so that every character beyond ASCII is cut."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core)


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_whole_characters_and_together_the_text(text: str, bytewise: Any) -> None:
    texts = TokenTexts(bytewise)
    ids = bytewise(text)["input_ids"]
    pieces = [texts.add(token) for token in ids]
    assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) + texts.rest() == text
    assert len(ids) == len(text.encode())


def test_bytes_that_are_no_character_are_let_through_at_last(bytewise: Any) -> None:
    broken = bytewise("é")["input_ids"][:1]
    texts = TokenTexts(bytewise)
    assert texts.add(broken[0]) == ""
    assert texts.rest() == "\ufffd"
    texts = TokenTexts(bytewise)
    pieces = [texts.add(broken[0]) for _ in range(20)]
    assert any(pieces), "an answer of nothing else does not wait to its end"


@pytest.mark.parametrize(
    ("pieces", "stops", "shown", "is_stopped"),
    [
        (["one", " two"], [], "one two", False),
        (["one END two"], ["END"], "one ", True),
        (["one E", "N", "D two"], ["END"], "one ", True),
        (["one E", "N", "X"], ["END"], "one ENX", False),
        (["aab"], ["ab"], "a", True),
        (["a", "a", "b"], ["ab"], "a", True),
        (["x", "\n", "\nHuman:"], ["\n\nHuman"], "x", True),
        (["later first"], ["first", "later"], "", True),
        (["one E"], ["END"], "one E", False),
    ],
)
def test_a_stop_text_ends_it_over_the_borders_of_tokens_and_is_never_shown(
    pieces: list[str], stops: list[str], shown: str, is_stopped: bool
) -> None:
    texts, said, found = StopTexts(stops), "", False
    for piece in pieces:
        new, found = texts.add(piece)
        said += new
        if found:
            break
    assert (said + ("" if found else texts.rest()), found) == (shown, is_stopped)
