"""README's first picture: a 70B on three unequal GPUs, in both languages, light and dark: `python -m tools.plan_picture`.

Only the model's published config.json is read; its step is traced once, in some ten seconds.
"""

from __future__ import annotations

from pathlib import Path

from lora_backend.cli import main as flightdeck
from lora_backend.i18n import LANGUAGES
from lora_backend.views.strip_picture import THEMES

OUT = Path(__file__).parents[1] / "docs/pictures"
PLAN = ("plan", "--model", "meta-llama/Llama-3.1-70B", "--gpus", "80,48,24", "--set", "gradient_checkpointing=true", "--set", "batch_size=1")  # fmt: skip


def main() -> None:
    """Make the four anew."""
    for language in LANGUAGES:
        for theme in THEMES:
            path = OUT / f"plan_{theme}_{language}.svg"
            flightdeck([*PLAN, "--lang", language, "--theme", theme, "--svg", str(path)])


if __name__ == "__main__":
    main()
