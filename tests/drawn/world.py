"""The folder of a drawing: models as they are asked for, one data set, a workspace."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.drawn.families import make_family
from tests.tiny import ANSWERS, QUESTIONS, chats, prompts, write_rows

LONG = " ".join(QUESTIONS * 12)
ODD_ROWS: dict[str, list[dict[str, object]]] = {
    "chats": chats(1),
    "system": [{"messages": [{"role": "system", "content": QUESTIONS[0]}, *row["messages"]]} for row in chats(1)],  # type: ignore[misc]
    "twice_asked": [{"messages": [{"role": "user", "content": "how"}, *row["messages"]]} for row in chats(1)],  # type: ignore[misc]
    "long_prompts": [{"prompt": LONG, "completion": answer} for answer in ANSWERS],
    "one_long_prompt": [*prompts(1), {"prompt": LONG, "completion": ANSWERS[0]}],
    "long_answers": [{"prompt": question, "completion": LONG} for question in QUESTIONS],
    "one_row": prompts(1)[:1],
    "twice": prompts(2),
    "a_bad_row": [*prompts(1), {"prompt": "?"}, {"nothing": 1}],
    "empty_answers": [*prompts(1), {"prompt": "?", "completion": ""}],
    "all_bad": [{"prompt": "?", "completion": ""}],
    "texts": [{"text": f"{question} {answer}"} for question, answer in zip(QUESTIONS, ANSWERS, strict=True)],
    "sharegpt": [{"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]} for q, a in zip(QUESTIONS, ANSWERS, strict=True)],
    "untrained": [{"messages": [*row["messages"][:1], {**row["messages"][1], "weight": 0}]} for row in chats(1)],  # type: ignore[index]
}  # fmt: skip
"""By what is odd of them."""


@dataclass
class World:
    """All below `root`, which the roots of the settings hold."""

    root: Path
    models: dict[str, Path] = field(default_factory=dict)

    def model(self, family: str) -> Path:
        if family not in self.models:
            self.models[family] = make_family(self.root / "models" / family, family)
        return self.models[family]

    @property
    def dataset(self) -> Path:
        path = self.root / "prompts.jsonl"
        return path if path.exists() else write_rows(path, prompts(1))

    def odd_dataset(self, kind: str) -> Path:
        """Rows of which some cannot be trained on by every model, or by none."""
        path = self.root / f"{kind}.jsonl"
        return path if path.exists() else write_rows(path, ODD_ROWS[kind])

    @property
    def workspace(self) -> Path:
        return self.root / "ws"
