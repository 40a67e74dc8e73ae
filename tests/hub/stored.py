"""What the tests of the hub share: repositories, jobs in this process, and what must be true of a cache at any moment."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from lora_backend.commands.job import in_foreground
from lora_backend.errors import ModelError
from lora_backend.installation import this_installation
from lora_backend.models.find import find_adapter, find_model
from lora_backend.models.local import local_models
from lora_backend.runs.record.job_documents import DownloadRequest, DownloadResult
from lora_backend.runs.record.run_store import RunStore
from tests.hub_server import git_sha1, sha256

ID = "acme/tiny-model"


def some_bytes(count: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(count)


def model_files(weights: int = 200_000) -> dict[str, bytes]:
    """A repository as they are: what is fetched, and what is not."""
    return {
        "README.md": b"# A model",
        "config.json": b'{"model_type": "llama"}',
        "generation_config.json": b"{}",
        "tokenizer.json": b'{"version": "1.0"}',
        "tokenizer_config.json": b'{"model_max_length": 64}',
        "chat_template.jinja": b"{{ messages }}",
        "modeling_tiny.py": b"import os",
        "pytorch_model.bin": b"a pickle",
        "onnx/model.safetensors": b"of another tool",
        "model.safetensors": some_bytes(weights),
    }


FETCHED = ["chat_template.jinja", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]  # fmt: skip


def sharded_files(weights: int = 60_000) -> dict[str, bytes]:
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"metadata": {}, "weight_map": {"a": shards[0], "b": shards[1]}}
    return {
        "config.json": b"{}",
        "model.safetensors.index.json": json.dumps(index).encode(),
        **{name: some_bytes(weights, seed) for seed, name in enumerate(shards)},
        "consolidated.safetensors": b"the same once more",
        "model.fp16-00001-of-00002.safetensors": b"a variant",
    }


def adapter_files() -> dict[str, bytes]:
    return {"adapter_config.json": b"{}", "adapter_model.safetensors": some_bytes(3000)}


def come(repo_id: str = ID, **asked: Any) -> tuple[RunStore, DownloadResult | None]:
    """Download in this process, as the command does."""
    folder, _ = in_foreground(DownloadRequest(repo_id=repo_id, **asked), this_installation(), name=repo_id)
    return folder, folder.read_result(DownloadResult)


def said(run: RunStore) -> str:
    """Why it failed, in English."""
    message = run.state().message
    return message.text("en") if message else run.state().state


def part_of(cache: Path, digest: str, data: bytes, repo_id: str = ID) -> Path:
    """What an earlier download left of a file."""
    path = cache / f"models--{repo_id.replace('/', '--')}" / "blobs" / f"{digest}.incomplete"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def whole_or_absent(cache: Path, files: dict[str, bytes], repo_id: str = ID, commit: str = "a" * 40) -> bool:
    """Whether it is found as a model or an adapter; whatever has its final name is whole and right, found or not."""
    folder = cache / f"models--{repo_id.replace('/', '--')}"
    for blob in (folder / "blobs").glob("*"):
        if blob.suffix != ".incomplete":
            assert blob.name in (sha256(blob.read_bytes()), git_sha1(blob.read_bytes())), "half a file under its name"
    for link in (folder / "snapshots" / commit).glob("*"):
        assert link.read_bytes() == files[link.name]
    is_adapter = "adapter_config.json" in files
    try:
        found = find_adapter(repo_id) if is_adapter else find_model(repo_id)
    except ModelError:
        return False
    names = {path.name for path in found.iterdir()}
    assert names == {name for name in files if name in FETCHED or is_adapter}
    assert is_adapter or repo_id in [one.name for one in local_models([cache])]
    return True
