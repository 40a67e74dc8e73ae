"""Check a config: `python -m lora_backend.config_checker [CONFIG]`, or this file itself.

Prints what is wrong, how it differs from the defaults, and the recommended full template. Without a config it
reports on the defaults.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: its own folder must not hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from lora_backend.config.check import CheckResult
from lora_backend.config.check_report import report_text
from lora_backend.config.config_text import ConfigDocument, read_config
from lora_backend.config.config_writing import template
from lora_backend.config.schema import default_config
from lora_backend.errors import ConfigError
from lora_backend.i18n import LANGUAGES, N_, translate, use_language
from lora_backend.installation import this_installation
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.resolve import resolve
from lora_backend.terminal import show, while_read, write_file

__all__ = ["check_config_consistency", "main"]


def check_config_consistency(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check a config and say how it differs from the defaults of `train_lora.py`.

    Returns `{"is_valid": bool, "issues": [str], "missing": [key], "unknown": [key], "differences": {key: {"default",
    "value"}}, "recommended_config": {…}, "findings": [{"severity", "code", "key", "line", "message", "remedy",
    "fix"}]}`,
    with sentences in the current language. Asks no network; never raises for a bad config.
    """
    return _checked(config).to_dict()


def _checked(config: ConfigDocument | Mapping[str, Any]) -> CheckResult:
    installation = this_installation()
    return resolve(config, installation, AnyPath(installation.folder)).result


def main(argv: list[str] | None = None) -> int:
    """Report and template on stdout. Exit 0 valid, 1 not valid, 2 no such file."""
    return while_read(lambda: _report(argv))


def _report(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="config_checker", description="Check a training config.")
    parser.add_argument("config", nargs="?", type=Path, help="YAML, JSON or TOML; without it, the defaults")
    parser.add_argument("--lang", choices=sorted(LANGUAGES))
    arguments = parser.parse_args(argv)
    with use_language(arguments.lang):
        if arguments.config is None:
            # The one key without a default is filled in, so that the report is about the others.
            result = _checked({"model_name": "your_model_path", **default_config()})
        else:
            try:
                document = read_config(arguments.config)
            except ConfigError as error:
                show(error, to_stderr=True)
                return 2
            result = _checked(document)
        show(report_text(result))
        show(f"\n# {translate(N_('Recommended full config:'))}\n")
        write_file(template(result.recommended_config) + "\n")
    return 0 if result.is_valid else 1


if __name__ == "__main__":
    sys.exit(main())
