"""What the check says of a config, and what training makes of it: both in this process."""

from __future__ import annotations

import gc
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lora_backend.commands.data import count_here
from lora_backend.config.config_writing import dump_yaml
from lora_backend.errors import FlightdeckError
from lora_backend.modeling.profiling import profile_for
from lora_backend.preflight.plan_question import Trace
from lora_backend.preflight.startable import judge, startable
from lora_backend.trainer.direct_run import train_in_folder
from tests.drawn.configs import shown
from tests.resolving import from_here
from tests.run_files import make_run

Kind = Literal["trained", "refused", "blocked", "invalid", "unknown"]


@dataclass(frozen=True)
class Outcome:
    """`refused` alone is wrong: the check called it startable, and the trainer did not train it."""

    kind: Kind
    said: str = ""


@dataclass
class Tally:
    """The outcomes of many configs, and each of the wrong ones in words."""

    counts: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    blocked: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        return ", ".join(f"{kind} {count}" for kind, count in sorted(self.counts.items()))


def outcome_of(values: dict[str, Any], workspace: Path, trace: Trace = profile_for) -> Outcome:
    """Ask whether the config can start, as `check`, `train` and the pages do; train it where it can."""
    judged = judge(from_here(dump_yaml(values)))
    if not judged.result.is_valid:
        return Outcome("invalid", ", ".join(finding.code for finding in judged.result.errors))
    start = startable(judged, trace, count=count_here)
    if start.answer is not True:
        codes = ", ".join(blocker.code for blocker in start.blockers)
        return Outcome("blocked" if start.answer is False else "unknown", codes)
    return _trained(dict(judged.config.values), workspace)


def _trained(values: dict[str, Any], workspace: Path) -> Outcome:
    folder = make_run(workspace / "runs", config=values, config_text=dump_yaml(values), argv=None)
    try:
        train_in_folder(folder)
    except FlightdeckError as error:
        return Outcome("refused", f"{type(error).__name__}: {error}")
    except Exception as error:
        return Outcome("refused", f"{type(error).__name__}, no sentence of ours: {error}")
    finally:
        shutil.rmtree(folder.path, ignore_errors=True)
        gc.collect()
    return Outcome("trained")


def tally(configs: Iterable[tuple[str, dict[str, Any]]], workspace: Path, say: Callable[[str], None] = print) -> Tally:
    """The outcomes of all `configs`, each with a name of its own."""
    found = Tally()
    for name, values in configs:
        outcome = outcome_of(values, workspace)
        found.counts[outcome.kind] += 1
        if outcome.kind in ("blocked", "invalid"):
            found.blocked[outcome.said] += 1
        if outcome.kind in ("refused", "unknown"):
            line = f"{name}: {outcome.kind}: {outcome.said}\n    {shown(values)}"
            say(line)
            found.refused.append(line)
    return found
