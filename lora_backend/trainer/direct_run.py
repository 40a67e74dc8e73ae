"""Start a run in this process: from a caller's DataLoader, or from a config file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from peft import PeftModel
from torch.utils.data import DataLoader

from lora_backend.config.config_writing import dump_yaml
from lora_backend.errors import ConfigError, RunError
from lora_backend.i18n import N_
from lora_backend.installation import Installation, this_installation
from lora_backend.launching.resume import data_to_accept
from lora_backend.peers.peers import Alone, Peers
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.resolve import resolve
from lora_backend.preflight.startable import judge
from lora_backend.runs.processes.signals import StopSignals
from lora_backend.runs.record.run_store import RunStore, new_run_id
from lora_backend.runs.record.transitions import NewRun, create
from lora_backend.trainer.resolved_again import resolved_again
from lora_backend.trainer.session import training_session
from lora_backend.training.recipe import train

logger = logging.getLogger(__name__)


def buildandTrainLoraModel(
    config: Mapping[str, Any],
    dataloader: DataLoader[Any],
    precision: str | None = None,
    pkg: str | None = None,
    version: str | None = None,
    knowledge_type: str | None = None,
) -> PeftModel:
    """Build the model that `config` describes and train it on the batches of `dataloader`.

    Batches are dicts of `input_ids`, `attention_mask` and `labels` (rows × tokens; label -100 is not learned).
    `precision` and the three names win over what the config says; `pkg` and `version` are needed. The call is a run
    like any other: a folder below the workspace with log, curves and rank report, this process as its trainer.

    Called in the main thread, SIGINT (Ctrl-C), SIGTERM, SIGHUP and SIGUSR2 save a checkpoint after the step first, and then do what
    they do otherwise. Returns the trained model. Raises `ConfigError` for a config with errors or without `pkg` and `version`,
    `RankMismatchError` under `strict_r_check`, and others of our `ValueError`s with what to change.
    """
    named = {"precision": precision, "pkg": pkg, "version": version, "knowledge_type": knowledge_type}
    whole = {**config, **{key: value for key, value in named.items() if value is not None}}
    if not (whole.get("pkg") and whole.get("version")):
        raise ConfigError(N_("Training needs `pkg` and `version`: the adapter is published under these names."))
    new = NewRun(config=dict(whole), config_text=dump_yaml(whole), argv=None)
    installation = this_installation()
    folder = create(installation.runs / new_run_id(installation.clock), new, installation)
    model = None
    with StopSignals(folder, installation) as signals, training_session(folder, installation):
        if precision and config.get("precision") not in (None, precision):
            logger.warning("precision %s is used; the config says %s", precision, config["precision"])
        resolved = resolve(whole, installation, AnyPath(installation.folder))
        resolved.validated()
        judge(resolved, needs_data=False).refuse()
        model = train(resolved, folder, dataloader)
    signals.pass_on()  # the checkpoint is saved; now it does to the caller's process what it was sent for
    if model is None:
        raise RunError(N_("Run {id} was stopped before it trained."), id=folder.id)
    return model


train_lora_model = buildandTrainLoraModel


def train_in_folder(folder: RunStore, *, bound: bool = True, accept_changed_data: bool = False) -> None:
    """Be the trainer of a run that is made: check its config, then train on its data set. `bound`: its adapter must be
    published below an output root. `accept_changed_data`: also on rows that are not those that it was launched with, or
    last read."""
    installation = this_installation().around(folder.path)
    with training_session(folder, installation):
        train_by_config(folder, installation, Alone(), bound=bound, accept_changed_data=accept_changed_data)
    logger.info("run %s ended: %s", folder.id, folder.path)


def train_by_config(
    folder: RunStore, installation: Installation, peers: Peers, *, bound: bool, accept_changed_data: bool
) -> None:
    """The same for this process alone or as one of several, whose session has begun."""
    resolved = resolved_again(folder, installation, bound=bound)
    # Before the check complains of what is in it.
    accepted = data_to_accept(folder, resolved, accept_changed_data=accept_changed_data)
    if accepted and peers.is_first:
        with folder.changing_attempt() as attempt:
            attempt.accepted_data_sha256 = accepted
    resolved.validated()
    judge(resolved).refuse()
    train(resolved, folder, peers=peers)
