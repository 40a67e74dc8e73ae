"""Model folders that lie, are half there, or are huge; the hub's cache; names that are none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lora_backend.errors import ModelError
from lora_backend.models.describe import describe_model
from lora_backend.models.find import find_model
from lora_backend.models.headers import read_folder_headers, read_header
from tests.python import limited


def with_header(path: Path, header: bytes, data: bytes = b"\0" * 8) -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def tensor(**changes: Any) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}).encode()


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as raised:
        read_header(path)
    assert path.name in str(raised.value)
    return str(raised.value)


# ------------------------------------------------------------------------------------------------------- headers


def test_a_good_file_made_by_hand_is_read(tmp_path: Path) -> None:
    info = read_header(with_header(tmp_path / "x.safetensors", tensor()))["a"]
    assert (info.shape, info.dtype, info.size_bytes) == ((2,), "F32", 8)


@pytest.mark.parametrize("length", [2 << 30, 99_000_000, 2**63])
def test_a_header_of_gigabytes_is_refused_without_reading_it(length: int, tmp_path: Path) -> None:
    """The file is 3 GiB of holes and the process may have 512 MiB; so much is not read to find out."""
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(length.to_bytes(8, "little"))
        file.truncate(3 << 30)
    script = (
        "from pathlib import Path; from lora_backend.models.headers import read_header\n"
        f"try: read_header(Path({str(path)!r}))\n"
        "except ValueError as error: print(error)\n"
    )
    said = limited(script, memory_bytes=1 << 29)
    assert ("damaged" if length > 3 << 30 else "has more than 16.00 MiB") in said


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [64, 64]}, {"shape": [1]}, {"shape": []}, {"shape": "2"}, {"shape": [2.9]}, {"shape": ["2"]}, {"shape": [True, 2]}, {"shape": {"2": 1}},
        {"shape": None}, {"dtype": "F64"}, {"data_offsets": [0, 4]}, {"data_offsets": [0]}, {"data_offsets": "08"}, {"data_offsets": [0.0, 8.0]},
        {"data_offsets": [-8, 0]}, {"data_offsets": [0, 2**70]},
    ],
)  # fmt: skip
def test_an_entry_whose_shape_type_and_bytes_do_not_agree_is_refused(changes: Any, tmp_path: Path) -> None:
    """The rank proof reads shapes from headers, so a header that lies about one must not be believed."""
    refusal(with_header(tmp_path / "x.safetensors", tensor(**changes)))


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 8]}}', b'{"a": {"dtype": "F32", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 8]}}',
        b'{"\xff": 1}', b"[" * 50_000, b"{" + b'"a":{' * 50_000, b"NaN", b"", b"null", b'{"a": null}', b'{"a": []}', b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 8]}}',
    ],
    ids=["infinite", "digits", "not-utf8", "deep-list", "deep-object", "nan", "empty", "null", "no-entry", "list-entry", "nan-shape"],
)  # fmt: skip
def test_a_header_that_is_no_table_of_tensors_is_refused(header: bytes, tmp_path: Path) -> None:
    refusal(with_header(tmp_path / "x.safetensors", header))


def test_every_way_to_cut_a_file_off_is_noticed(tmp_path: Path) -> None:
    save_file({"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.float16)}, tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    for length in range(len(whole)):
        path = tmp_path / "cut.safetensors"
        path.write_bytes(whole[:length])
        refusal(path)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(2, 3), (0, 4), ()])
def test_what_safetensors_writes_is_believed(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    save_file({"a": np.ones(shape, dtype), "b": np.zeros(3, dtype)}, tmp_path / "x.safetensors", {"format": "np"})
    assert {name: info.shape for name, info in read_header(tmp_path / "x.safetensors").items()} == {
        "a": shape,
        "b": (3,),
    }


@pytest.mark.parametrize(
    "index",
    [
        "", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": ["x"]}}', '{"weight_map": {"a": ""}}', '{"weight_map": {"a": "."}}',
        '{"weight_map": {"a": ".."}}', '{"weight_map": {"a": "/etc/passwd"}}', '{"weight_map": {"a": "../model.safetensors"}}',
        '{"weight_map": {"a": "sub/x.safetensors"}}', '{"weight_map": {"a": "gone.safetensors"}}', '{"weight_map": {"a": "a\\u0000b"}}', "[" * 50_000,
    ],
)  # fmt: skip
def test_an_index_that_lists_no_files_of_its_folder_is_refused(index: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError):
        read_folder_headers(tmp_path, "model")


def test_one_file_wins_over_an_index_beside_it(tmp_path: Path) -> None:
    save_file({"a": np.ones(1)}, tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert set(read_folder_headers(tmp_path, "model")) == {"a"}
    assert read_folder_headers(tmp_path, "adapter_model") == {}


# -------------------------------------------------------------------------------------------------- descriptions


def described(folder: Path, config: Any = None, names: tuple[str, ...] = (), **files: Any) -> Any:
    (folder / "config.json").write_text(json.dumps(config or {}))
    if names:
        save_file({name: np.zeros((2, 2), np.float32) for name in names}, folder / "model.safetensors")
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return describe_model(folder)


@pytest.mark.parametrize(
    ("names", "modules"),
    [
        (("model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"), ("up_proj",)),
        (("transformer.h.0.attn.c_attn.weight", "transformer.h.0.mlp.c_fc.weight", "wpe.weight"), ("c_attn", "c_fc")),
        (("language_model.model.layers.0.self_attn.q_proj.weight",), ("q_proj",)),
        (("model.decoder.layers.0.fc1.weight", "model.decoder.layers.0.fc1.bias"), ("fc1",)),
        (("model.embed_tokens.weight", "lm_head.weight"), ()),
    ],
)
def test_linear_layers_inside_blocks_are_named_by_their_endings(
    names: tuple[str, ...], modules: tuple[str, ...], tmp_path: Path
) -> None:
    assert described(tmp_path, {}, names).linear_modules == modules


def test_norms_are_no_linear_layers(tmp_path: Path) -> None:
    save_file(
        {"model.layers.0.input_layernorm.weight": np.ones(2), "model.layers.0.q.weight": np.ones((2, 2))},
        tmp_path / "model.safetensors",
    )
    (tmp_path / "config.json").write_text("{}")
    assert describe_model(tmp_path).linear_modules == ("q",)


def test_the_language_model_of_a_vision_model_is_described(tmp_path: Path) -> None:
    found = described(
        tmp_path,
        {
            "model_type": "llava",
            "num_hidden_layers": 99,
            "text_config": {"num_hidden_layers": 3, "max_position_embeddings": 64},
            "vision_config": {"num_hidden_layers": 24},
        },
    )
    assert (found.model_type, found.num_blocks, found.max_positions) == ("llava", 3, 64)


@pytest.mark.parametrize("value", [None, "2", 2.5, True, [2]])
def test_a_count_that_is_no_whole_number_is_not_known(value: Any, tmp_path: Path) -> None:
    assert described(tmp_path, {"num_hidden_layers": value}).num_blocks is None


@pytest.mark.parametrize("name", ["tokenizer__json", "tokenizer__model", "vocab__json"])
def test_a_tokenizer_is_seen(name: str, tmp_path: Path) -> None:
    assert not described(tmp_path).has_tokenizer
    assert described(tmp_path, {}, (), **{name: "{}"}).has_tokenizer


@pytest.mark.parametrize(
    ("files", "has"),
    [
        ({"chat_template__jinja": "x"}, True), ({"tokenizer_config__json": '{"chat_template": "x"}'}, True),
        ({"tokenizer_config__json": '{"chat_template": [{"name": "default", "template": "x"}]}'}, True),
        ({"tokenizer_config__json": '{"chat_template": null}'}, False), ({"tokenizer_config__json": "{}"}, False), ({}, False),
    ],
)  # fmt: skip
def test_a_chat_template_is_seen_wherever_it_is_kept(files: dict[str, Any], has: bool, tmp_path: Path) -> None:
    assert described(tmp_path, {}, (), **files).has_chat_template is has


@pytest.mark.parametrize("text", ["", "{oops", "[1]", "null", '"x"', "[" * 50_000, '{"a": ' * 50_000, "\ufeff\ufeff{}"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_broken_file_is_a_sentence_that_names_it(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_text(text)
    with pytest.raises(ModelError) as raised:
        describe_model(tmp_path)
    assert name in str(raised.value)


# ------------------------------------------------------------------------------------------------------- finding


@pytest.mark.parametrize(
    "name",
    [
        "no/where", "no/where/at/all", "/no/where", "x" * 300, "/" + "x" * 300, "a/" + "b" * 300, "a\0b", "\ud800", "~no-such-user/model", "a--b/c",
        "a/..b", "x/..", "a/b.git", "-a/b", "./x", "../x", "é/ü", "a/b\n", " ", "a/b c", "http://example.invalid/x", "a" * 60 + "/" + "b" * 60,
    ],
)  # fmt: skip
def test_a_name_that_is_no_model_is_a_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError):
        find_model(name)


def test_a_file_that_is_no_json_is_told_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("")
    with pytest.raises(ModelError, match="is a file"):
        find_model(str(tmp_path / "model.gguf"))


def test_a_model_of_the_hub_is_found_in_its_cache_and_no_network_is_asked(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--some--model/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--some--model/refs").mkdir()
    (tmp_path / "models--some--model/refs/main").write_text("abc")
    script = (
        "import socket, sys\n"
        "sys.addaudithook(lambda event, _: event.startswith('socket.connect') and print('NETWORK'))\n"
        "from lora_backend.models.find import find_model\n"
        "print(find_model('some/model'))\n"
        "try: find_model('some/other')\n"
        "except ValueError as error: print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False, timeout=60
    )
    assert done.stdout.splitlines()[0] == str(snapshot), done.stderr[-500:]
    assert "flightdeck download some/other" in done.stdout
    assert "NETWORK" not in done.stdout
