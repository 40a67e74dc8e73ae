"""How chat templates write an answer, by hand from reading them: what the labels are held against.

`Frame` says it for one template. The templates themselves come from the installed TRL; those in `OWN` are written here, in
the manner of families that TRL has none of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

Message = dict[str, Any]
REFUSED = "refused"


@dataclass(frozen=True)
class Frame:
    end: str
    """Behind an answer, without white space that only separates it from the next turn."""
    last: str | None = None
    """The same behind the last turn, where that differs."""
    before: str = ""
    """What the model writes before the words of an answer, behind what the prompt ends with."""
    before_now: str | None = None
    """The same for an answer behind the last question, where that differs."""
    trims: Literal["", "both", "end", "lines"] = ""
    """White space that the template takes from an answer: none, all around it, behind it, line breaks before it."""
    inline: Literal["kept", "dropped", "dropped_earlier", "reasoning"] = "kept"
    """Thoughts in an answer: as they are; left out everywhere; of earlier answers; or taken for thoughts beside it."""
    thought: str | None = None
    """Thoughts beside an answer behind the last question, in the place of `before_now`; None: not written."""
    thought_earlier: bool = False
    """Whether earlier answers keep theirs."""
    call: str | None = None
    """An answer that calls `get_time(city="Ulm")` and says nothing else; None: left out."""
    system: str = "written"
    tools: str = "written"


IM_END = "<|im_end|>"
JSON_CALL = '<tool_call>\n{"name": "get_time", "arguments": {"city": "Ulm"}}\n</tool_call>' + IM_END
XML_CALL = "<tool_call>\n<function=get_time>\n<parameter=city>\nUlm\n</parameter>\n</function>\n</tool_call>"
CHATML = Frame(IM_END)
DEEPSEEK = Frame("<｜end▁of▁sentence｜>", inline="dropped")
DEEPSEEK_CALL = '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n```json\n{"city": "Ulm"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
GEMMA = Frame("<end_of_turn>", trims="both", tools=REFUSED)
GEMMA4 = Frame(
    "<turn|>", trims="both", call='<|tool_call>call:get_time{city:<|"|>Ulm<|"|>}<tool_call|><|tool_response>'
)
GEMMA4_THINKS = replace(GEMMA4, thought="<|channel>thought\n{}\n<channel|>")
LLAMA = Frame("<|eot_id|>", trims="both", call='{"name": "get_time", "parameters": {"city": "Ulm"}}<|eot_id|>')
LFM25 = replace(
    CHATML,
    inline="dropped_earlier",
    thought="<think>{}</think>",
    call="<|tool_call_start|>[get_time(city='Ulm')]<|tool_call_end|>" + IM_END,
)
NEMOTRON = Frame(
    IM_END,
    before="</think>",
    trims="end",
    inline="dropped_earlier",
    thought="{}\n</think>\n",
    call=f"</think>\n{XML_CALL}\n{IM_END}",
)
NEMOTRON_TIGHT = replace(NEMOTRON, thought="{}</think>")
PHI = Frame("<|end|>", last="<|end|>\n</s>")
QWEN35 = Frame(
    IM_END, trims="both", inline="reasoning", before_now="\n</think>\n\n", thought="{}\n</think>\n\n",
    call=f"\n</think>\n\n{XML_CALL}{IM_END}",
)  # fmt: skip
UTTERANCE = Frame("<end_of_utterance>", before=" ")

STOCK: dict[str, Frame] = {
    "cohere": Frame("<|END_OF_TURN_TOKEN|>", trims="both", tools=REFUSED),
    "cohere2": Frame("<|END_RESPONSE|><|END_OF_TURN_TOKEN|>", tools=REFUSED),
    "deepseek_r1_distill": DEEPSEEK,
    "deepseekv3": replace(DEEPSEEK, call=DEEPSEEK_CALL + "<｜end▁of▁sentence｜>"),
    "diffusion_gemma": GEMMA4_THINKS,
    "gemma": replace(GEMMA, system=REFUSED),
    "gemma3": GEMMA,
    "gemma4": GEMMA4,
    "gemma4_v2": replace(GEMMA4, call='<|tool_call>call:get_time{city:<|"|>Ulm<|"|>}<tool_call|><turn|>'),
    "gemma4_v3": GEMMA4,
    "gemma4_v4": GEMMA4,
    "gemma4_v5": GEMMA4_THINKS,
    "glm4moe": Frame(
        "", before="\n<think></think>\n", trims="both", inline="reasoning", thought="\n<think>{}</think>\n",
        call="\n<think></think>\n<tool_call>get_time\n<arg_key>city</arg_key>\n<arg_value>Ulm</arg_value>\n</tool_call>",
    ),
    "gptoss": Frame(
        "<|end|>", last="<|return|>", before="<|channel|>final<|message|>",
        thought="<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
        call=' to=functions.get_time<|channel|>commentary json<|message|>{"city": "Ulm"}<|call|>',
    ),
    "idefics3": UTTERANCE,
    "lfm2": CHATML,
    "lfm2_2_5": LFM25,
    "lfm2_2_5_v2": LFM25,
    "lfm2_2_5_vl": LFM25,
    "lfm2_v2": replace(CHATML, call=LFM25.call),
    "llama3": replace(LLAMA, call=None),
    "llama3_1": LLAMA,
    "llama3_2": LLAMA,
    "llava_next": Frame("</s>", before=" ", tools=REFUSED),
    "muse_glimmer": Frame(
        "<|eot|>", before=" to=user<|message|>", thought_earlier=True,
        thought=" to=self<|message|>{}<|eom|><|start|>assistant to=user<|message|>",
        call=' to=get_time<|message|><atem:function_calls>\n<atem:invoke name="get_time">\n<atem:parameter name="city">Ulm</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eot|>',
    ),
    "nemotron_3_5_lightning": NEMOTRON_TIGHT,
    "nemotron_3_nano": NEMOTRON,
    "nemotron_3_super": NEMOTRON,
    "nemotron_3_ultra": NEMOTRON_TIGHT,
    "phi3": PHI,
    "phi3_5": PHI,
    "smolvlm": UTTERANCE,
    "qwen2_5": replace(CHATML, call=JSON_CALL),
    "qwen2_5_vl": CHATML,
    "qwen3": Frame(
        IM_END, trims="lines", inline="reasoning", before_now="<think>\n\n</think>\n\n",
        thought="<think>\n{}\n</think>\n\n", call=JSON_CALL,
    ),
    "qwen3_5_nothink": replace(QWEN35, before_now="", call=XML_CALL + IM_END),
    "qwen3_5_think": QWEN35,
    "qwen3_6": QWEN35,
    "qwen3_8": replace(QWEN35, before="\n</think>\n\n", inline="kept", thought_earlier=True),
    "qwen3_instruct_2507": replace(CHATML, call=JSON_CALL),
    "qwen3_vl": replace(CHATML, call=JSON_CALL),
}  # fmt: skip
"""By the name of the file in TRL."""

_EOS_TURNS = "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
_INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ '<<SYS>>\n' + m.content + '\n<</SYS>>\n\n' }}"
    "{% elif m.role == 'user' %}{{ '[INST] ' + m.content | trim + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content | trim + ' ' + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported.') }}{% endif %}{% endfor %}"
)
_CLOSING_BEFORE = (
    "{% for m in messages %}{% if not loop.first %}{{ '<|sep|>' }}{% endif %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}"
    "{{ '<|sep|>' }}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
OWN: dict[str, tuple[str, Frame]] = {
    "turns that end with the end of text": (_EOS_TURNS, Frame("</s>")),
    "instructions in brackets": (_INST, Frame(" </s>", before=" ", trims="both", tools=REFUSED)),
    "instructions in brackets, tight": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST]' + m.content + '[/INST]' }}{% elif m.role == 'assistant' %}{{ m.content + eos_token }}{% else %}{{ raise_exception('No ' + m.role) }}{% endif %}{% endfor %}",
        Frame("</s>", tools=REFUSED, system=REFUSED),
    ),
    "names in words": (
        "{% for m in messages %}{% if m.role == 'user' %}USER: {{ m.content }} {% elif m.role == 'assistant' %}ASSISTANT: {{ m.content }}{{ eos_token }}{% else %}{{ m.content }}\n\n{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT: {% endif %}",
        Frame("</s>"),
    ),
    "a loop over numbers": (
        "{% for i in range(messages | length) %}{% set before = messages[i - 1] %}{% set m = messages[i] %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        CHATML,
    ),
    "a macro": (
        "{% macro turn(m) %}{{ '<|im_start|>' + m['role'] + '\n' }}{{ m['content'] }}{{ '<|im_end|>\n' }}{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        CHATML,
    ),
    "written into a variable first": (
        "{% set said %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% endset %}{{ bos_token + said }}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        CHATML,
    ),
    "turns that are closed by what follows": (_CLOSING_BEFORE, Frame("", last="<|sep|>")),
    "without an end": (
        "{% for m in messages %}{{ '\n### ' + m.role + ':\n' + m.content | trim + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '\n### assistant:\n' }}{% endif %}",
        Frame("", trims="both"),
    ),
    "an opening of the text behind its system turn": (
        "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}{% else %}{% set system = 'Be kind.' %}{% set rest = messages %}{% endif %}{{ bos_token + system + '\n' }}{% for m in rest %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
        Frame("<|end|>"),
    ),
}
"""What the family does → its template in our words, and how it writes an answer."""


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def answer(text: str, **more: Any) -> Message:
    return {"role": "assistant", "content": text, **more}


def system(text: str) -> Message:
    return {"role": "system", "content": text}


TOOL = {
    "type": "function",
    "function": {
        "name": "get_time", "description": "The time of day.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Where."}}, "required": ["city"]},
    },
}  # fmt: skip
CALL = {"type": "function", "id": "call00001", "function": {"name": "get_time", "arguments": {"city": "Ulm"}}}
CALL_IN_TEXT = {**CALL, "function": {"name": "get_time", "arguments": '{"city": "Ulm"}'}}
RESULT = {"role": "tool", "name": "get_time", "tool_call_id": "call00001", "content": "half past twelve"}

SHAPES: dict[str, list[Message]] = {
    "one turn": [user("Is it late?"), answer("It is not.")],
    "several turns": [user("Is it late?"), answer("No."), user("And now?"), answer("A little."), user("Now?"), answer("Yes, very.")],
    "a system turn": [system("Be brief."), user("Is it late?"), answer("It is not.")],
    "an empty system turn": [system(""), user("Is it late?"), answer("It is not.")],
    "one answer twice, and the question again": [user("yes"), answer("yes"), user("no"), answer("yes"), user("yes"), answer("no")],
    "answers in one another": [user("yes and no"), answer("yes and no"), user("no"), answer("no"), user("and"), answer("and no")],
    "a line break first": [user("A poem?\n"), answer("\nIt is\n\nlate."), user("More?"), answer("\n\nIt is\nnot.")],
    "white space at the end": [user("Late? "), answer("It is. \n"), user("Sure?"), answer("Yes.\n\n")],
    "marks of others in an answer": [user("<b>?"), answer("<b>bold</b> [1] {{ x }} & 4 < 5 > 3"), user("é?"), answer("日本 🙂 é")],
    "a question last": [user("Is it late?"), answer("It is not."), user("Really?")],
    "thoughts in the answers": [user("Late?"), answer("<think>\nsun is up\n</think>\n\nNo."), user("Now?"), answer("<think>\nmoon is up\n</think>\n\nYes.")],
    "thoughts beside the answers": [user("Late?"), answer("No.", reasoning_content="sun is up"), user("Now?"), answer("Yes.", reasoning_content="moon is up")],
    "a tool and its result": [user("What time is it in Ulm?"), answer("", tool_calls=[CALL]), RESULT, answer("Lunch time.")],
    "a call whose arguments are a text": [user("What time is it in Ulm?"), answer("", tool_calls=[CALL_IN_TEXT]), RESULT, answer("Lunch time.")],
}  # fmt: skip


def expected(frame: Frame, messages: list[Message]) -> list[str] | str:
    """What is learned of a chat, answer by answer, or that the template refuses it."""
    roles = [message["role"] for message in messages]
    if ("system" in roles and frame.system == REFUSED) or ("tool" in roles and frame.tools == REFUSED):
        return REFUSED
    last_question = max(place for place, role in enumerate(roles) if role == "user")
    found = []
    for place, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        end = frame.end if frame.last is None or place + 1 < len(messages) else frame.last
        if message.get("tool_calls"):
            found += [] if frame.call is None else [frame.call]
        else:
            found.append(_before_and_words(frame, message, is_now=place > last_question) + end)
    return found


def _before_and_words(frame: Frame, message: Message, *, is_now: bool) -> str:
    words, thought = str(message["content"]), message.get("reasoning_content")
    before = frame.before if frame.before_now is None or not is_now else frame.before_now
    if "</think>" in words:
        inner, words_alone = words.removeprefix("<think>\n").split("\n</think>")
        if frame.inline == "reasoning":
            thought, words = inner, words_alone.lstrip("\n")
        elif frame.inline == "dropped":
            words = words_alone
        elif frame.inline == "dropped_earlier":
            if is_now:
                before, words = "", words if frame.before != "</think>" else words.removeprefix("<think>\n")
            else:
                words = words_alone if frame.before else words_alone.strip()
    if thought is not None and frame.thought is not None and (is_now or frame.thought_earlier):
        before = frame.thought.format(thought)
    elif thought is not None and frame.thought == "{}\n</think>\n":
        before += "\n"  # what stood behind the thought stays
    trim: dict[str, Callable[[str], str]] = {"": str, "both": str.strip, "end": str.rstrip, "lines": lambda text: text.lstrip("\n") if is_now else text}  # fmt: skip
    return before + trim[frame.trims](words)
