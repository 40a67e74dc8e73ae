"""The profile of a model: traced, with all of its blocks where they cannot be parted, or from a formula at last."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError, UntraceableError, UntrainableError, first_line
from lora_backend.i18n import N_
from lora_backend.installation import Installation
from lora_backend.modeling.by_formula import profile_by_formula
from lora_backend.modeling.failing_steps import fails_in_training
from lora_backend.modeling.meta import model_config, module_tree, untrainable
from lora_backend.modeling.trace import TRACE_SECONDS, WAYS, Report, trace_profile
from lora_backend.modeling.trace_sizes import attention_windows, tile_tokens
from lora_backend.modeling.tracker import Deadline
from lora_backend.planning.cost.profile import Profile, Taken
from lora_backend.planning.cost.trace_settings import Batch, TraceSettings
from lora_backend.preflight.plan_question import Trace
from lora_backend.preflight.trees import tree_of

logger = logging.getLogger(__name__)


def profile_for(
    facts: Mapping[str, Any], config: TrainingConfig, report: Report = lambda *_: None, batch: Batch | None = None
) -> Profile:
    """The profile that `config` (its `precision` resolved) needs. `batch`: a real one, in place of the largest.

    A block of each kind is traced; where that fails, every block; where that needs values, counts are the model's and
    activations a formula's. Raises `ModelError` where the model cannot be built at all, `UntrainableError` where its
    training step would fail as the traced one does.
    """
    with untrainable("model_name"):
        architecture = model_config(facts)
    windows, tile = attention_windows(architecture), tile_tokens(architecture)
    settings = TraceSettings.of(config, config.precision, windows, tile, batch)
    try:
        return _profile(facts, config, settings, report)
    except ModelError as error:
        plain = _plain_step(settings, error)
        if plain is None:
            raise
        try:
            profile = _profile(facts, config, settings, report, plain)
        except ModelError:
            raise error from None
        logger.warning("planned with padded rows and the logits of all tokens: %s", error)
        return profile


def _profile(
    facts: Mapping[str, Any],
    config: TrainingConfig,
    settings: TraceSettings,
    report: Report,
    taken: Taken | None = None,
) -> Profile:
    """By the first way that works."""
    deadline = Deadline(TRACE_SECONDS)
    failed: UntraceableError | None = None
    for way in WAYS:
        if failed is not None and deadline.is_over:
            break
        try:
            return trace_profile(facts, config, settings, report, way=way, deadline=deadline, taken=taken)
        except UntraceableError as error:
            failed = error
    assert failed is not None
    cause = failed.__cause__
    if cause is not None and fails_in_training(cause):
        raise UntrainableError(
            N_(
                "This model's training step fails: {reason}. Name other modules in `target_modules`, or choose another model."
            ),
            about="model_name",
            reason=said.rstrip(".") if isinstance(said := first_line(cause), str) else said,
        ) from failed
    logger.warning("%s", failed)
    return profile_by_formula(facts, config, settings)


def _plain_step(settings: TraceSettings, error: ModelError) -> Taken | None:
    """The step without what `settings` leave to the model, where they leave it anything: training, too, goes back to padded
    rows, and to the logits of all tokens, where a model cannot do otherwise."""
    if settings.batching == "padded" and settings.loss_type != "auto":
        return None
    return Taken(
        "padded",
        "chunked_nll" if settings.loss_type == "chunked_nll" else "nll",
        why_padded=error.message if settings.batching == "flat" else None,
    )


def tracer(installation: Installation, report: Report = lambda *_: None) -> Trace:
    """`profile_for`, with what it builds kept for all that comes after."""

    def trace(facts: Mapping[str, Any], config: TrainingConfig) -> Profile:
        with untrainable("model_name"):
            _keep_tree(facts, installation)
        return profile_for(facts, config, report)

    return trace


def _keep_tree(facts: Mapping[str, Any], installation: Installation) -> None:
    """A config that is planned can be held against the model's modules from then on, and without torch."""
    try:
        tree_of(facts, module_tree, installation)
    except OSError as error:  # it cannot be kept; the plan does without it
        logger.warning("The model's modules cannot be kept: %s", error)
