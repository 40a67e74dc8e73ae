"""Configs resolved and started as the entries do it: a page, bound to the roots, and a person at a command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_backend.config.config_text import ConfigDocument, parse_config
from lora_backend.installation import Installation, this_installation
from lora_backend.launching.launch import launch
from lora_backend.launching.requests import StartOptions, StartRequest
from lora_backend.launching.resume import prepare_resume, resume_run
from lora_backend.planning.verdict import Verdict
from lora_backend.preflight.facts import Readers
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.plan_question import Trace
from lora_backend.preflight.resolve import ResolvedConfig, resolve
from lora_backend.preflight.roots import BrowserRoots
from lora_backend.runs.record.run_store import RunStore

Config = str | ConfigDocument | Mapping[str, Any]


def from_browser(config: Config, installation: Installation | None = None) -> ResolvedConfig:
    installation = installation or this_installation()
    return resolve(
        parse_config(config) if isinstance(config, str) else config, installation, BrowserRoots(installation)
    )


def bound(config: Config, installation: Installation | None = None) -> dict[str, Any]:
    """The values of a config that came through the browser; raises where one leaves the roots."""
    resolved = from_browser(config, installation)
    resolved.refuse_escapes()
    return dict(resolved.values)


def from_here(
    config: Config, installation: Installation | None = None, base: Path | None = None, readers: Readers | None = None
) -> ResolvedConfig:
    document = parse_config(config) if isinstance(config, str) else config
    return resolve(document, installation or this_installation(), AnyPath(base or Path.cwd()), readers)


def launch_from_browser(text: str, installation: Installation, trace: Trace, accepts: Verdict = "fits") -> RunStore:
    return launch(StartRequest(from_browser(text, installation), StartOptions(accepts=accepts)), trace)


def resume_from_here(
    run: RunStore,
    installation: Installation,
    trace: Trace,
    changes: Mapping[str, Any] | None = None,
    *,
    accept_changed_data: bool = False,
    **options: Any,
) -> RunStore:
    policy = AnyPath(Path.cwd(), is_bound_in_publishing=True)
    asked = prepare_resume(run, installation, policy, changes)
    return resume_run(asked, trace, StartOptions(**options), accept_changed_data=accept_changed_data)
