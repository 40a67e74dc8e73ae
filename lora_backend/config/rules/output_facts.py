"""Rules about where a run writes: the folder that its adapter is published to, and the disk of the runs."""

from __future__ import annotations

from collections.abc import Iterator

from lora_backend.config.findings import Finding, Fix
from lora_backend.config.patch import Patch
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, FactCheck, Facts
from lora_backend.i18n import N_, Message

CHECKPOINT_BYTES = 12
"""Of each trained parameter in a checkpoint: fp32 weight and AdamW's two fp32 states."""
_GIB = 2**30


PUBLICATION_FORBIDDEN = Rule(
    "publication_forbidden",
    "error",
    None,
    N_("Change `{key}`."),
    broken="output_dir: .\npkg: runs\nversion: v1",
    fixed="output_dir: adapters\npkg: runs\nversion: v1",
    facts=Facts(
        publication_forbidden=(
            "pkg",
            Message(
                N_(
                    "Adapters cannot be published in {path}: Flightdeck uses {folder} for other files. Choose another `{key}`."
                ),
                {"path": "./workspace/runs/v1", "folder": "./workspace/runs", "key": "pkg"},
            ),
        )
    ),
    fixed_facts=Facts(),
)

NOT_AN_ADAPTER = Rule(
    "not_an_adapter",
    "warning",
    N_("{path} is not an adapter that Flightdeck published, so it is never replaced."),
    N_("Choose another `version` or `output_dir`."),
    broken="pkg: a\nversion: v1",
    fixed="pkg: a\nversion: v2",
    facts=Facts(publication_blocked_by="./workspace/adapters/a/v1"),
    fixed_facts=Facts(),
)

ALREADY_PUBLISHED = Rule(
    "already_published",
    "warning",
    N_("An adapter is already published under `pkg` and `version`, and `overwrite` is off."),
    N_("Set another `version`, or `overwrite: true`."),
    broken="pkg: a\nversion: v1",
    fixed="pkg: a\nversion: v1\noverwrite: true",
    facts=Facts(is_published=True),
)

OUTPUT_IN_USE = Rule(
    "output_in_use",
    "warning",
    N_("Run {run} is in progress and will publish its adapter to the same folder."),
    N_("Set another `version`, or wait until that run has ended."),
    broken="pkg: a\nversion: v1",
    fixed="pkg: a\nversion: v1",
    facts=Facts(output_used_by="20260101-120000-ab"),
    fixed_facts=Facts(),
)


def _output(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    if facts.publication_forbidden:
        key, message = facts.publication_forbidden
        yield PUBLICATION_FORBIDDEN.found(config, key, {"key": key}, sentence=message)
    if facts.publication_blocked_by:
        yield NOT_AN_ADAPTER.found(config, "version", {"path": facts.publication_blocked_by})
    if facts.is_published and config.has_good("overwrite") and not config.get("overwrite"):
        label = Message(N_("Set `overwrite: true` to replace the adapter published there"))
        yield ALREADY_PUBLISHED.found(config, "version", None, Fix(Patch({"overwrite": True}), label))
    if facts.output_used_by:
        yield OUTPUT_IN_USE.found(config, "version", {"run": facts.output_used_by})


def checkpoint_bytes(config: ConfigView, facts: Facts) -> float:
    """A checkpoint's adapter and optimizer states; 0 where the model's layers are not known."""
    if not config.has_good("r", "target_modules", "target_layers"):
        return 0.0
    targets, layers = config.get("target_modules"), config.get("target_layers")
    width = sum(
        width
        for ending, width in facts.linear_width.items()
        if not isinstance(targets, list) or any(target.rsplit(".", 1)[-1] == ending for target in targets)
    )
    share = len(set(layers)) / facts.num_blocks if layers and facts.num_blocks else 1.0
    return float(config.get("r") * width * min(share, 1.0) * CHECKPOINT_BYTES)


DISK_TOO_SMALL = Rule(
    "disk_too_small",
    "warning",
    N_("Checkpoints may take {needed} GiB, but the disk that holds the runs has only {free} GiB free."),
    N_("Free some disk space, set `save_total_limit: 2`, or lower `r`."),
    broken="r: 64\nalpha: 64",
    fixed="r: 8\nalpha: 8",
    facts=Facts(linear_width={"q_proj": 350_000}, disk_free_bytes=2**30),
)


def _disk(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    """The adapter, and every checkpoint that is kept with the optimizer's states."""
    if facts.disk_free_bytes is None or not config.has_good("save_total_limit"):
        return
    limit, each_bytes = config.get("save_total_limit"), checkpoint_bytes(config, facts)
    # Without a limit at least three are likely; one more is there while the oldest is not yet gone.
    needed_bytes = round(each_bytes * ((limit or 3) + 1))
    if needed_bytes > facts.disk_free_bytes:
        values = {"needed": f"{needed_bytes / _GIB:.1f}", "free": f"{facts.disk_free_bytes / _GIB:.1f}"}
        yield DISK_TOO_SMALL.found(
            config,
            "save_total_limit",
            values,
            config.change({"save_total_limit": 2}) if 3 * each_bytes <= facts.disk_free_bytes else None,
        )


RULES = (PUBLICATION_FORBIDDEN, NOT_AN_ADAPTER, ALREADY_PUBLISHED, OUTPUT_IN_USE, DISK_TOO_SMALL)
CHECKS: tuple[FactCheck, ...] = (_output, _disk)
