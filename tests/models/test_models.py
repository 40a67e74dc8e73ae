"""Find a model, read what its files say, and refuse files that lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lora_backend.errors import ModelError
from lora_backend.models.describe import describe_model
from lora_backend.models.find import find_model
from lora_backend.models.headers import read_folder_headers, read_header


def header(entries: dict[str, Any], data: bytes = b"\0" * 8, length: int | None = None) -> bytes:
    text = json.dumps(entries).encode()
    return (length if length is not None else len(text)).to_bytes(8, "little") + text + data


def entry(begin: int, end: int, shape: Any = (2,)) -> dict[str, Any]:
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}


def test_names_shapes_and_sizes_are_read(tmp_path: Path) -> None:
    save_file({"a.weight": np.zeros((3, 4), np.float32)}, tmp_path / "model.safetensors")
    info = read_header(tmp_path / "model.safetensors")["a.weight"]
    assert (info.shape, info.dtype, info.size_bytes) == ((3, 4), "F32", 48)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\1\2", header({"a": entry(0, 8)}, length=10**6), (2 << 30).to_bytes(8, "little") + b"{}", header({"a": entry(0, 9)}),
        header({"a": entry(0, 8), "b": entry(4, 8)}), header({"a": entry(8, 0)}), header({"a": 3}), header({"a": {"dtype": "F32"}}),
        (5).to_bytes(8, "little") + b"[1,2]", (4).to_bytes(8, "little") + b"oops", header({"a": entry(0, 8, [-2])}),
        header({"a": entry(0, 8)}) + b"more", header({"a": entry(4, 12)}) + bytes(4), header({"a": entry(0, 8), "b": entry(12, 20)}) + bytes(12),
    ],
)  # fmt: skip
def test_a_truncated_or_lying_header_is_refused_with_a_sentence(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match=r"x\.safetensors is damaged"):
        read_header(tmp_path / "x.safetensors")


def test_shards_are_read_and_none_outside_the_folder(tmp_path: Path) -> None:
    for part in "12":
        save_file({f"a{part}": np.zeros(2, np.float32)}, tmp_path / f"model-{part}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a1": "model-1.safetensors", "a2": "model-2.safetensors"}}))
    assert set(read_folder_headers(tmp_path, "model")) == {"a1", "a2"}
    index.write_text(json.dumps({"weight_map": {"a1": "../model-1.safetensors"}}))
    with pytest.raises(ModelError, match="outside"):
        read_folder_headers(tmp_path, "model")


def folder(tmp_path: Path, config: dict[str, Any], names: list[str]) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({name: np.zeros((2, 2), np.float32) for name in names}, tmp_path / "model.safetensors")
    return tmp_path


def test_a_llama_is_described(tmp_path: Path) -> None:
    names = [f"model.layers.{block}.self_attn.{m}.weight" for block in (0, 10, 2) for m in ("q_proj", "k_proj")]
    found = describe_model(
        folder(
            tmp_path,
            {"model_type": "llama", "num_hidden_layers": 11, "max_position_embeddings": 99},
            [*names, "lm_head.weight"],
        )
    )
    assert (found.num_blocks, found.max_positions, found.linear_modules) == (11, 99, ("k_proj", "q_proj"))
    assert [name.split(".")[2] for name in found.linear_names] == ["0", "0", "2", "2", "10", "10"]
    assert not found.has_tokenizer


def test_other_families_say_it_in_other_words(tmp_path: Path) -> None:
    found = describe_model(folder(tmp_path, {"n_layer": 2, "n_positions": 7}, ["h.0.attn.c_attn.weight", "wte.weight"]))
    assert (found.num_blocks, found.max_positions, found.linear_modules) == (2, 7, ("c_attn",))
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"num_hidden_layers": 3}}))
    assert describe_model(tmp_path).num_blocks == 3
    assert describe_model(tmp_path / "config.json").num_blocks == 3


@pytest.mark.parametrize("text", ["{oops", "[1]"])
def test_a_broken_config_is_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        describe_model(tmp_path)


def test_a_model_is_found_or_its_absence_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        find_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert find_model(str(tmp_path)) == tmp_path
    assert find_model(str(tmp_path / "config.json")) == tmp_path / "config.json"
    with pytest.raises(ModelError, match="flightdeck download someone/some-model"):
        find_model("someone/some-model")
    with pytest.raises(ModelError, match="no model folder"):
        find_model("/nowhere/at/all")
