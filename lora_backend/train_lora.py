"""Train a LoRA from a config file: `python -m lora_backend.train_lora CONFIG`, or this file itself.

`DEFAULT_CONFIG` holds the defaults that every diff compares with.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: its own folder must not hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from lora_backend.config.schema import default_config

DEFAULT_CONFIG = default_config()
"""Key → default; the one schema makes it."""


def main(argv: list[str] | None = None) -> int:
    """The command `train` of `python -m lora_backend`."""
    from lora_backend.cli import main as cli

    return cli(["train", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
