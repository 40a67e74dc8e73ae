"""Folders that somebody planted: what looks like a run, a draft or an adapter, and leads elsewhere by links."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from lora_backend.atomic import write_json
from lora_backend.installation import this_installation
from lora_backend.runs.checkpoints.manifest import write_manifest
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.seal import seal_of
from tests.run_files import add_point, add_start, end_run, make_run, put_answers, record_of, set_status

SECRET = "s3cr3t-of-somebody"
"""In every file outside; a page, a command or a file of the workspace that has it has followed a link."""
NUMBER = 770077
"""In every curve outside."""
FILES = (
    "run.json", "config.yaml", "train.log", "status.json", "metrics.jsonl", "answers.jsonl", "rank_report.json", "labels.json", "exit.json",
    "attempts/1.json", "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "adapter/flightdeck.json",
    "checkpoints/checkpoint-7/manifest.json", "checkpoints/checkpoint-7/trainer_state.json", "supervisor.log",
)  # fmt: skip
FOLDERS = ("attempts", "adapter", "checkpoints", "checkpoints/checkpoint-7")
WRITTEN = ("stop.request", "save.request", "status.lock", "labels.lock", "supervisor.lock")
"""Files that somebody may ask to be made, and that a link could put elsewhere."""


def whole_run(path: Path, word: str, number: int) -> RunStore:
    """A run that failed, with `word` in every text that can hold one."""
    config = {"model_name": word, "r": 4, "output_dir": word}
    run = make_run(
        path.parent, config=config, config_text=f"model_name: {word}\n", argv=["true", word], path=path, name=word
    )
    set_status(run, state="running", step=number, total_steps=number)
    add_point(run, {"step": number, "loss": float(number)})
    add_start(run, changes={"output_dir": word}, device_uuids=[word], note={"template": word, "values": {}})
    run.train_log.write_text(f"2026-01-01 00:00:00,000 INFO here: {word}\n")
    put_answers(run, [{"question": word, "adapter_answer": word, "base_answer": word}])
    write_json(
        run.rank_report_json,
        {
            "is_consistent": False,
            "status": "mismatch",
            "expected_r": number,
            "mismatched_layers": [word],
            "warnings": [],
            "layers": [],
            "actual_r_values": {word: number},
        },
    )
    (path / "labels.json").write_text(json.dumps({"tags": [word], "note": word}))
    (path / "supervisor.log").write_text(word)
    adapter(run.adapter, word, number)
    (run.adapter / "flightdeck.json").write_text(json.dumps({"config": {"r": number}, "ranks": {word: number}}))
    checkpoint = adapter(run.checkpoints / "checkpoint-7", word, number)
    (checkpoint / "trainer_state.json").write_text(
        json.dumps(
            {"global_step": number, "log_history": [{"step": number, "loss": number}], "best_model_checkpoint": word}
        )
    )
    write_manifest(checkpoint, 7)
    end_run(run, "failed", cause=word, log=[word])
    return run


def adapter(folder: Path, word: str, rank: int) -> Path:
    """As PEFT saves one; only its header is read, so it is written by hand, and its tensors are empty."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {"peft_type": "LORA", "base_model_name_or_path": word, "r": rank, "lora_alpha": 8, "target_modules": [word]}
    (folder / "adapter_config.json").write_text(json.dumps(own))
    name = f"base_model.model.model.layers.0.{word}.lora_"
    header: dict[str, Any] = {
        f"{name}A.weight": {"dtype": "F32", "shape": [rank, 0], "data_offsets": [0, 0]},
        f"{name}B.weight": {"dtype": "F32", "shape": [0, rank], "data_offsets": [0, 0]},
    }
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    return folder


def planted_run(runs: Path, outside: Path, links: tuple[str, ...], name: str = "planted") -> RunStore:
    """A run of the workspace in which `links` lead to the same parts of somebody's run outside."""
    theirs = RunStore(outside / "theirs")
    if not theirs.path.exists():
        whole_run(theirs.path, SECRET, NUMBER)
    pattern = outside.with_name("pattern")  # made once: who made a run is asked of git
    if not pattern.exists():
        whole_run(pattern, "ours", 3)
    run = RunStore(Path(shutil.copytree(pattern, runs / name)))
    about = record_of(run)  # its command is to be started here, where a copied folder's is not
    write_json(run.run_json, about | {"argv_seal": seal_of(run.path, about["argv"], this_installation().seal_key)})
    for link in links:
        place, target = run.path / link, theirs.path / link
        if place.exists():
            place.rename(outside / f"taken-{link.replace('/', '-')}-{name}")
        place.symlink_to(target)
    return run


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a folder as it is, to see that nobody wrote there."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
        )
        for path in sorted(folder.rglob("*"))
    }


def holds_secret(folder: Path) -> list[str]:
    """Files below a folder that hold what only the files outside hold; links are not followed."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            if not path.is_symlink() and SECRET.encode() in path.read_bytes():
                found.append(str(path))
    return found
