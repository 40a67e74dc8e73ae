"""Rules across the keys that name rows: one data set or several, their shares, and where evaluation takes its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lora_backend.config.findings import Finding, shorten
from lora_backend.config.fix_offers import remove
from lora_backend.config.named_data import paths_in
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, KeyCheck
from lora_backend.i18n import N_

DATASET_AND_DATASETS = Rule(
    "dataset_and_datasets",
    "error",
    N_("Both `dataset` and `datasets` are set; training uses only one of them."),
    N_("Remove `dataset`, or enter its file in `datasets`."),
    broken="dataset: a.jsonl\ndatasets:\n- path: b.jsonl",
    fixed="datasets:\n- path: a.jsonl\n- path: b.jsonl",
)

NO_SHARE = Rule(
    "no_share",
    "error",
    N_("The shares in `datasets` sum to 0, so there are no rows to train on."),
    N_("Set a `share` above 0; 1 takes each row once an epoch."),
    broken="datasets:\n- path: a.jsonl\n  share: 0",
    fixed="datasets:\n- path: a.jsonl\n  share: 1",
)

SET_NAMED_TWICE = Rule(
    "set_named_twice",
    "error",
    N_("`datasets` names {path} twice."),
    N_("Name it once, with `share: {share}`."),
    broken="datasets:\n- path: a.jsonl\n- path: a.jsonl",
    fixed="datasets:\n- path: a.jsonl\n  share: 2",
)


def _sets(config: ConfigView) -> Iterator[Finding]:
    if not config.has_good("datasets") or not config.get("datasets"):
        return
    if config.get("dataset"):
        yield DATASET_AND_DATASETS.found(config, "dataset", None, remove("dataset"), remove("datasets"))
    sets = [named for named in paths_in(config.values) if named.key == "datasets"]
    if not sum(named.share for named in sets):
        whole = [{name: part for name, part in entry.items() if name != "share"} for entry in config.get("datasets")]
        yield NO_SHARE.found(config, "datasets", None, config.change({"datasets": whole}))
    counted = Counter((named.path, named.split) for named in sets)
    for (path, split), count in counted.items():
        if count > 1:
            share = sum(named.share for named in sets if (named.path, named.split) == (path, split))
            fix = config.change({"datasets": _once(config.get("datasets"), path, split, share)})
            yield SET_NAMED_TWICE.found(config, "datasets", {"path": shorten(path), "share": f"{share:g}"}, fix)


def _once(entries: Sequence[Mapping[str, Any]], path: str, split: str | None, share: float) -> list[Mapping[str, Any]]:
    """The entries with the first of a set's having the share of all."""
    places = [place for place, one in enumerate(entries) if (one["path"], one.get("split")) == (path, split)]
    found = [one for place, one in enumerate(entries) if place not in places[1:]]
    found[places[0]] = {**found[places[0]], "share": share}
    return found


EVAL_DATASET_AND_VAL_SIZE = Rule(
    "eval_dataset_and_val_size",
    "error",
    N_("Both `eval_dataset` and `val_size` are set; evaluation uses only one of them."),
    N_("Remove one of the two."),
    broken="eval_dataset: e.jsonl\nval_size: 0.1\neval_strategy: epoch\nseed: 42",
    fixed="eval_dataset: e.jsonl\neval_strategy: epoch",
)

EVAL_DATASET_FOR_NOTHING = Rule(
    "eval_dataset_for_nothing",
    "warning",
    N_("`eval_dataset` has no effect while `eval_strategy` is no."),
    N_("Set `eval_strategy: epoch`, or remove `eval_dataset`."),
    broken="eval_dataset: e.jsonl",
    fixed="eval_dataset: e.jsonl\neval_strategy: epoch",
)


def _evaluation(config: ConfigView) -> Iterator[Finding]:
    if not config.has_good("eval_dataset", "val_size", "eval_strategy") or not config.get("eval_dataset"):
        return
    if config.get("val_size"):
        fixes = remove("val_size"), remove("eval_dataset")
        yield EVAL_DATASET_AND_VAL_SIZE.found(config, "eval_dataset", None, *fixes)
    elif config.get("eval_strategy") == "no":
        fix = config.change({"eval_strategy": "epoch"})
        yield EVAL_DATASET_FOR_NOTHING.found(config, "eval_dataset", None, fix, remove("eval_dataset"))


RULES = (DATASET_AND_DATASETS, NO_SHARE, SET_NAMED_TWICE, EVAL_DATASET_AND_VAL_SIZE, EVAL_DATASET_FOR_NOTHING)
CHECKS: tuple[KeyCheck, ...] = (_sets, _evaluation)
