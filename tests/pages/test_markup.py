"""Text from outside is text on a page, wherever Streamlit reads Markdown; our own templates keep theirs."""

from __future__ import annotations

import pytest

from lora_backend.config.fix_offers import change, remove, rename
from lora_backend.i18n import Message, in_code
from pages.parts.shell.markdown import BREAK, Markdown, bold, code, escape, joined, sentence
from pages.parts.widgets.charts import in_chart
from pages.parts.widgets.frames import cell, frame, markdown_frame


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("![x](http://evil.example/f.png)", "!\\[x\\](http⁞://evil.example/f.png)"), ("[a](b) [a][b]", "\\[a\\](b) \\[a\\]\\[b\\]"),
        ("HTTPS://evil.example www.evil.example", "HTTP⁞S://evil.example www⁞.evil.example"), ("//evil.example", "⁞//evil.example"),
        ("a.b@evil.example", "a.b⁞@evil.example"), ("<b>&lt;&#60;", "\\<b>\\&lt;\\&#60;"), ("*a* _b_ ~c~ `d`", "\\*a\\* \\_b\\_ \\~c\\~ \\`d\\`"),
        ("$x$ a|b \\", "\\$x\\$ a\\|b \\\\"), (":red[x] ::a", "\\:red\\[x\\] \\:\\:a"), (":smile: :material/home: :+1: :100:", ":⁞smile: :⁞material/home: :⁞+1: :⁞100:"),
        ("- a", "\\- a"), ("--- ", "\\--- "), ("# a", "\\# a"), ("> a", "\\> a"), ("=", "\\="), ("1234. a", "1234\\. a"), ("    a", " a"),
        ("a -> b -- c", "a -⁞> b -⁞- c"), ("a\nb\x1b[1m\u202e\x00", "a b\\\\x1b\\[1m\\\\u202e\\\\x00"),
    ],
)  # fmt: skip
def test_markup_in_a_value_is_text(text: str, escaped: str) -> None:
    assert escape(text).replace(BREAK, "⁞") == escaped


@pytest.mark.parametrize(
    "text",
    ["1.5 GiB", "-3", "–", "learning_rate", "12:30:45", "2026-01-02", "50 %", "key: value", "(x)", "a/b.json", "5 > 4", "1,000", "三步"],
)  # fmt: skip
def test_figures_and_plain_names_are_left_as_they_are(text: str) -> None:
    assert escape(text) == text


def test_what_is_escaped_is_escaped_once() -> None:
    once = escape("a_b_ [x]")
    assert escape(once) == once
    assert joined(", ", [once, "[y]"]) == f"{once}, \\[y\\]"
    assert bold("*") == "**\\***"
    assert bold(" a ") == "**a**"
    assert bold("") == "**–**"
    assert isinstance(bold("a"), Markdown)


def test_a_sentence_keeps_its_own_markdown_and_escapes_its_values_however_deep() -> None:
    inner = Message("**{name}**", {"name": "[x](y)"})
    said = sentence(
        "{many} `{key}` {number:.1f} {size}",
        {"many": [inner, "*"], "key": "a`b *c*", "number": 1.25, "size": "1.0 GiB"},
        "en",
    )
    assert said == "**\\[x\\](y)** \\* ``a`b *c*`` 1.2 1.0 GiB"
    assert sentence("{x}", {"x": inner}, "en") == sentence(
        "{x}", {"x": sentence(inner.template, inner.values, "en")}, "en"
    )
    assert sentence("{names} here", {"names": in_code(["a_b", "`"])}, "en") == "`a_b`, `` ` `` here"


def test_a_sentence_in_a_code_span_is_put_there_without_markup() -> None:
    assert sentence("`{x}`", {"x": escape("[a]")}, "en") == "`[a]`"
    assert sentence("`{x}`", {"x": Message("say {y}", {"y": "*"})}, "en") == "`say *`"
    assert sentence("a ` alone {x}", {"x": "[b]"}, "en") == "a \\` alone \\[b\\]"


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("a", "`a`"),
        ("`", "`` ` ``"),
        ("a``b", "```a``b```"),
        (" a ", "`  a  `"),
        ("a\n\nb", "`a  b`"),
        ("\x07", "`\\x07`"),
    ],
)
def test_a_code_span_holds_any_text(text: str, span: str) -> None:
    assert code(text) == span


@pytest.mark.parametrize(
    ("value", "shown"),
    [("=1+1", BREAK + "=1+1"), ("@x", BREAK + "@x"), ("+x", BREAK + "+x"), ("-x", BREAK + "-x"), ("\t=x", BREAK + " =x"), ("a=b", "a=b"), (-1.5, -1.5), (None, None), (True, True), ("a\u202eb", "a\\u202eb"), (escape("[x]"), "[x]")],
)  # fmt: skip
def test_a_cell_of_a_data_frame_is_text_and_no_formula(value: object, shown: object) -> None:
    assert cell(value) == shown


def test_columns_of_tables_come_from_outside_too() -> None:
    assert list(frame([{"=x": "=y", "n": -1}]).iloc[0]) == [BREAK + "=y", -1]
    assert list(frame([{"=x": 1}]).columns) == [BREAK + "=x"]
    assert list(markdown_frame(["[x]"], [["[y]"]]).columns) == ["\\[x\\]"]
    assert markdown_frame(["a"], [["[y]"]]).iloc[0, 0] == "\\[y\\]"


def test_a_name_in_a_chart_is_no_tag_and_no_template() -> None:
    assert in_chart('<a href="x">%{y}\x1b') == "&lt;a href=&quot;x&quot;&gt;%&#123;y}\\x1b"


def test_what_a_fix_does_shows_keys_as_code_and_no_escapes_of_it() -> None:
    fixes = [
        change({"max_length": 4096}, {"max_length": 128}),
        change({"r": 8, "alpha": 1}, {"r": 16, "alpha": None}),
        change({"r": 8, "alpha": 1}, {"r": None, "alpha": None}),
        rename("lora_r", 8, {"r": 8, "alpha": 16}),
        rename("lora_r", 8, {"r": 8}),
        remove("r"),
    ]
    labels = [say_in_english(fix.label) for fix in fixes]
    assert labels[0] == "Set `max_length: 128` (now 4096)"
    assert not [label for label in labels if "\\`" in label]


def say_in_english(message: Message) -> str:
    return str(sentence(message.template, message.values, "en"))
