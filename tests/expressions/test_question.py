"""Users' expressions: they match what `re` matches, by one deadline, and nobody waits for another's."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_backend.errors import ExpressionError
from lora_backend.expressions import question as question_module
from lora_backend.expressions import remembered
from lora_backend.expressions.apart import Ask, answer_apart
from lora_backend.expressions.endings import Endings
from lora_backend.expressions.matching import AROUND, KEY, LAYERS, SAVED, WHOLE
from lora_backend.expressions.question import Question
from tests.hostile import NAMES, ODD_EXPRESSIONS, SLOW_EXPRESSIONS

DOCUMENTED = (
    # PEFT's documentation, docstrings and tests
    "q_proj", "all-linear", r".*decoder.*(SelfAttention|EncDecAttention).*(q|v)$", r".*\.(q|v)_proj", r"^model\.layers\.0\.self_attn\.q_proj$",
    "^model.decoder.layers.0.encoder_attn.k_proj", r"model\.decoder\.layers\.0\.encoder_attn\.k_proj", r".*\.gate_up_proj", "^.*proj$", r".*0.*v_proj",
    r"(.*\.)?layers\.(0|1|10)\..*", r"(?!.*layers\.1).*q_proj", r"layers\.[0-9]+\..*", r".*\.[0-9]+\.mlp\.(up|gate|down)_proj", "layers.1.mlp.gate_proj",
    # what people write
    r"model\.layers\.(?:1|31)\..+", r"[^.]+\.layers\..*_proj", "self_attn.[qv]_proj", r"\w+\.experts\.\d+\.down_proj", "gate_proj|down_proj", "mlp", "layers",
    "experts.7.down_proj", r"experts\.7\.down_proj", "q.proj", "10.mlp.gate_proj", "o_proj", "model", "model.layers", "h", "self_attn.q", "proj", r"lay\w{3}",
    r"(layers)\.1\.mlp", r"layers\.\d{2}\.self_attn\.(?P<which>q|v)_proj", "", "^", r"\.", "a.b", "(?:model.)?layers.1.*", r"lay.*?\.31\..*",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has just started."""
    for kept in ("_answers", "_slow"):
        monkeypatch.setattr(remembered, kept, OrderedDict())


def by_re(form: str, pattern: str, names: tuple[str, ...]) -> set[str]:
    """What PEFT's own calls of `re` find."""
    try:
        compiled = re.compile(AROUND[form].replace("{}", pattern))
    except re.error:
        return set()
    return {name for name in names if (compiled.fullmatch(name) if form == WHOLE else compiled.match(name))}


def ours(form: str, pattern: str, names: tuple[str, ...], question: Question | None = None) -> set[str]:
    question = question or Question(60.0)
    question.prepare((form, [pattern], names))
    return {name for name in names if question.matches(form, pattern, name)}


@pytest.mark.parametrize("form", [KEY, WHOLE, SAVED, LAYERS])
@pytest.mark.parametrize("pattern", DOCUMENTED)
def test_an_expression_matches_what_re_matches(pattern: str, form: str) -> None:
    names = (*NAMES, "lm_head", "model.embed_tokens", "model.layers.1.mlp_gate_proj", "transformer.h.3.attn", "")
    assert ours(form, pattern, names) == by_re(form, pattern, names)


pieces = st.sampled_from(
    ["q_proj", "layers", "0", "1", "a", "b", ".", r"\.", "-", ".*", ".+", r"\d+", r"\w*", "[ab]", "[^.]+", "(a|b)", "(?:q|layers)", "a?", "b{2}", "(a.)?", "^", "$", "|", "(?=a)", "(?!b)", "é", "\n", "(a+)?", r"\1", "(", "+"]
)  # fmt: skip
parts = st.text("ab01_-q.", min_size=0, max_size=12) | st.sampled_from(["q_proj", "layers.1.q_proj", "a\n", "é.a"])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([KEY, WHOLE, SAVED]), st.lists(pieces, max_size=6).map("".join), st.lists(parts, max_size=5))
def test_any_expression_matches_what_re_matches(form: str, pattern: str, names: list[str]) -> None:
    assert ours(form, pattern, tuple(names)) == by_re(form, pattern, tuple(names))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([KEY, SAVED]), st.text("ab-_1.", min_size=1, max_size=6), st.lists(st.text("ab-1.", max_size=7)))
def test_a_plain_name_is_looked_up_as_re_would_match_it(form: str, pattern: str, names: list[str]) -> None:
    """A bare dot stands for any character, which a look-up by parts of a name does not see by itself."""
    found = Endings(names).find(form, pattern)
    if found is not None:
        assert {names[index] for index in found} == by_re(form, pattern, tuple(names))


def test_most_documented_expressions_need_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page asks at every click; what is plain or simple is answered at once."""

    def refused(*_: object) -> None:
        raise AssertionError("asked a process")

    monkeypatch.setattr(question_module, "answer_apart", refused)
    simple = (
        "q_proj",
        "gate_proj|down_proj",
        "mlp",
        r".*\.(q|v)_proj",
        r".*\.gate_up_proj",
        "^.*proj$",
        r"^model\.layers\.0\.self_attn\.q_proj$",
    )
    for pattern in simple:
        for form in (WHOLE, KEY):
            assert ours(form, pattern, NAMES) == by_re(form, pattern, NAMES)


def test_at_least_forty_hostile_expressions_are_tried() -> None:
    assert len(set(SLOW_EXPRESSIONS)) >= 40


@pytest.mark.parametrize("pattern", SLOW_EXPRESSIONS, ids=range(len(SLOW_EXPRESSIONS)))
def test_a_hostile_expression_ends_by_its_deadline_with_a_sentence(pattern: str) -> None:
    """That it ends at all holds it: none of them would end today."""
    with pytest.raises(ExpressionError, match="too long"):
        ours(WHOLE, pattern, NAMES, Question(0.3))


@pytest.mark.parametrize("pattern", ODD_EXPRESSIONS, ids=range(len(ODD_EXPRESSIONS)))
@pytest.mark.parametrize("form", [KEY, WHOLE])
def test_an_odd_expression_matches_what_re_matches_or_says_why_not(pattern: str, form: str) -> None:
    question = Question(60.0)
    question.prepare((form, [pattern], NAMES))
    try:
        re.compile(AROUND[form].replace("{}", pattern))
    except (re.error, RecursionError, OverflowError, ValueError):
        assert question.fault(form, pattern)
        assert not any(question.matches(form, pattern, name) for name in NAMES)
    else:
        assert question.fault(form, pattern) is None
        assert {name for name in NAMES if question.matches(form, pattern, name)} == by_re(form, pattern, NAMES)


def test_the_deadline_is_one_for_the_whole_question() -> None:
    """Each of a hundred would take its two seconds; after the first the time is up."""
    question = Question(0.3)
    with pytest.raises(ExpressionError):
        question.prepare((KEY, [rf"([\w.]+)+!{number}" for number in range(100)], NAMES))
    for number in range(100, 200):
        with pytest.raises(ExpressionError):
            question.matches(KEY, rf"([\w.]+)+!{number}", NAMES[0])


def test_the_one_that_is_slow_is_named_and_not_the_others() -> None:
    with pytest.raises(ExpressionError) as raised:
        Question(0.5).prepare((KEY, ["q_proj", r"(a+)?b.*c.*d", r"([\w.]+)+!", r"(e+)?f.*g.*h"], NAMES))
    assert raised.value.pattern in (r"([\w.]+)+!", None)  # None on a machine too busy to start the process in time


def test_what_took_too_long_is_not_tried_again_at_each_rerun(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = r"([\w.]+)+!"
    with pytest.raises(ExpressionError, match=re.escape(pattern)):
        ours(WHOLE, pattern, NAMES, Question(5.0))
    asked: list[object] = []
    monkeypatch.setattr(question_module, "answer_apart", lambda *args: asked.append(args))
    for form, names in ((WHOLE, NAMES), (KEY, NAMES[:3])):
        with pytest.raises(ExpressionError, match=re.escape(pattern)):
            ours(form, pattern, names)
    assert not asked


def test_an_answer_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = r"(?i:MODEL\.(\w+\.)*q_proj)"
    first = ours(WHOLE, pattern, NAMES)
    assert len(first) == 4
    monkeypatch.setattr(question_module, "answer_apart", lambda *_: pytest.fail("asked again"))
    assert ours(WHOLE, pattern, NAMES) == first


def test_a_hostile_question_does_not_hold_up_anothers() -> None:
    """The cause is held and no clock: the other answer comes while the hostile process still has its time before it."""
    ended = threading.Event()

    def hostile() -> None:
        answer_apart([Ask(WHOLE, (r"([\w.]+)+!",), NAMES)], 60.0)
        ended.set()

    thread = threading.Thread(target=hostile, daemon=True)
    thread.start()
    assert ours(WHOLE, r"(?i:MODEL\.(\w+\.)*q_proj)", NAMES)
    assert not ended.is_set()


def test_first_matches_are_in_the_order_of_the_patterns() -> None:
    found = Question().first_matches(["mlp.gate_proj", "gate_proj", ".*proj"], NAMES)
    assert found["model.layers.0.mlp.gate_proj"] == "mlp.gate_proj"
    assert found["model.layers.0.self_attn.q_proj"] == ".*proj"


def test_thousands_of_plain_names_are_looked_up_and_not_tried_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand names and as many patterns are a hundred million matches, and a hundred seconds."""
    names = [f"model.layers.{block}.mlp.experts.{expert}.w1" for block in range(50) for expert in range(200)]
    monkeypatch.setattr(question_module, "answer", lambda *_: pytest.fail("matched one by one"))
    assert Question(60.0).first_matches(names, names) == {name: name for name in names}
