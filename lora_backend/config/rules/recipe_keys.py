"""Rules about recipes on top of plain training: LoRA+, NEFTune, label smoothing, an adapter to begin with."""

from __future__ import annotations

from collections.abc import Iterator

from lora_backend.config.findings import Finding
from lora_backend.config.fix_offers import remove
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, KeyCheck
from lora_backend.i18n import N_

HIGHEST_RATE_OF_B = 2e-2
"""The authors of LoRA+ train A at 5e-5 to 2e-4 and B at up to 16 times that; with room above."""
HIGHEST_NOISE = 50.0
"""NEFTune's paper tries 5, 10 and 15."""
HIGHEST_SMOOTHING = 0.5
"""0.1 is usual (Szegedy et al. 2016); from one half on more than half of a target is noise."""

HIGH_RATE_OF_B = Rule(
    "high_rate_of_b",
    "warning",
    N_("`loraplus_lr_ratio` {ratio} lets the B matrices learn at {rate}, far above the usual rates for LoRA."),
    N_("Set `loraplus_lr_ratio: 16`, and half of the usual `learning_rate`."),
    broken="loraplus_lr_ratio: 500",
    fixed="loraplus_lr_ratio: 16",
)


def _loraplus(config: ConfigView) -> Iterator[Finding]:
    ratio = config.get("loraplus_lr_ratio")
    if not config.has_good("loraplus_lr_ratio", "learning_rate") or ratio is None:
        return
    rate = ratio * config.get("learning_rate")
    if rate > HIGHEST_RATE_OF_B:
        values = {"ratio": ratio, "rate": f"{rate:.3g}"}
        fix = config.change({"loraplus_lr_ratio": 16}) if ratio > 16 else None
        yield HIGH_RATE_OF_B.found(config, "loraplus_lr_ratio", values, fix)


STRONG_NOISE = Rule(
    "strong_noise",
    "warning",
    N_("`neftune_noise_alpha` {alpha} drowns the embeddings in noise; 5 to 15 is usual."),
    N_("Set `neftune_noise_alpha: 5`."),
    broken="neftune_noise_alpha: 100",
    fixed="neftune_noise_alpha: 5",
)


def _noise(config: ConfigView) -> Iterator[Finding]:
    alpha = config.get("neftune_noise_alpha")
    if config.has_good("neftune_noise_alpha") and alpha is not None and alpha > HIGHEST_NOISE:
        fix = config.change({"neftune_noise_alpha": 5})
        yield STRONG_NOISE.found(config, "neftune_noise_alpha", {"alpha": alpha}, fix)


STRONG_SMOOTHING = Rule(
    "strong_smoothing",
    "warning",
    N_(
        "`label_smoothing_factor` {share} spreads more than half of each target over words that are wrong; 0.1 is usual."
    ),
    N_("Set `label_smoothing_factor: 0.1`."),
    broken="label_smoothing_factor: 0.9",
    fixed="label_smoothing_factor: 0.1",
)


def _smoothing(config: ConfigView) -> Iterator[Finding]:
    share = config.get("label_smoothing_factor")
    if config.has_good("label_smoothing_factor") and share > HIGHEST_SMOOTHING:
        fix = config.change({"label_smoothing_factor": 0.1})
        yield STRONG_SMOOTHING.found(config, "label_smoothing_factor", {"share": share}, fix)


TWO_BEGINNINGS = Rule(
    "two_beginnings",
    "error",
    N_(
        "`init_lora_weights: {word}` computes the adapter's first weights from the base model, so `init_from_adapter` cannot replace them."
    ),
    N_("Remove one of the two."),
    broken="init_from_adapter: a\ninit_lora_weights: pissa",
    fixed="init_from_adapter: a",
)


def _beginnings(config: ConfigView) -> Iterator[Finding]:
    if not config.has_good("init_from_adapter", "init_lora_weights") or not config.get("init_from_adapter"):
        return
    word = config.get("init_lora_weights")
    if word in ("pissa", "olora"):
        yield TWO_BEGINNINGS.found(
            config, "init_lora_weights", {"word": word}, remove("init_lora_weights"), remove("init_from_adapter")
        )


RULES = (TWO_BEGINNINGS, HIGH_RATE_OF_B, STRONG_NOISE, STRONG_SMOOTHING)
CHECKS: tuple[KeyCheck, ...] = (_beginnings, _loraplus, _noise, _smoothing)
