"""The table in docs/runs.md of what may change when a run is resumed, made from the schema."""

from __future__ import annotations

from lora_backend.config.key_traits import ResumeWord
from lora_backend.config.schema import KEYS
from tools.docs.common import DOCS, SUFFIXES, Words, row, words

BEGIN, END = "<!-- what may change on resume -->\n", "<!-- end of what may change on resume -->"
HEAD = (words("what a change does", "改动的影响"), words("keys", "配置项"))
ROWS: tuple[tuple[Words, tuple[ResumeWord, ...]], ...] = (
    (words("safe: what is learned stays", "安全：学到的内容不变"), ("saving",)),
    (words("safe: counts from here on", "安全：从这里开始生效"), ("from_here",)),
    (words("safe, but rounds differently, so the curve continues close to, but not exactly as, before", "安全，但舍入不同，曲线与原来接近而不完全一致"), ("place", "same_sum")),
    (words("the same with as many rows per step as before; refused with others", "每步行数不变时同上；改变每步行数则拒绝"), ("same_rows",)),
    (words("the same between `auto`, `flat` and `padded`; refused to and from `packed`", "在 `auto`、`flat` 与 `padded` 之间同上；改为或改自 `packed` 则拒绝"), ("same_packing",)),
    (words("computes the schedule anew, and enters it at the step reached", "重新计算学习率调度，并从已到达的步数接入"), ("schedule",)),
    (words("refused: another model", "拒绝：会是另一个模型"), ("model",)),
    (words("refused: another form of adapter", "拒绝：适配器的形状会不同"), ("adapter",)),
    (words("refused: other data", "拒绝：数据会不同"), ("data",)),
    (words("refused: the checkpoint holds the optimizer's state (`adamw_torch` and `adamw_torch_fused` are one optimizer: safe)", "拒绝：检查点里有优化器的状态（`adamw_torch` 与 `adamw_torch_fused` 是同一个优化器，改动安全）"), ("optimizer",)),
)  # fmt: skip
"""What a change does, and the schema's words for it."""


def pages() -> dict[str, str]:
    """The page in each language: its own words, with the table between the two marks made anew."""
    names = {language: f"runs{suffix}.md" for language, suffix in SUFFIXES.items()}
    return {name: _fresh((DOCS / name).read_text("utf-8"), language) for language, name in names.items()}


def _fresh(text: str, language: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(language)}\n\n{END}{after}"


def table(language: str) -> str:
    """A row for each thing that a change does, with its keys in the schema's order."""
    lines = [row(word[language] for word in HEAD), row(["---", "---"])]
    for what, kinds in ROWS:
        keys = " ".join(f"`{name}`" for name, key in KEYS.items() if key.on_resume in kinds)
        lines.append(row([what[language], keys]))
    return "\n".join(lines)
