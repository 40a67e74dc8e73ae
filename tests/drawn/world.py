"""The folder of a drawing: models as they are asked for, one data set, a workspace."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.drawn.families import make_family
from tests.tiny import prompts, write_rows


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

    @property
    def workspace(self) -> Path:
        return self.root / "ws"
