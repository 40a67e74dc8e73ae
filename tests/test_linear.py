"""Our own expressions over text that somebody made for them: each would take minutes to years if it went back and forth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_backend.config.config_text import parse_config
from lora_backend.config.secrets import holds_secret, redact
from lora_backend.errors import DeviceError, ModelError
from lora_backend.hardware.catalog import parse_gpus
from lora_backend.models.describe import describe_model
from lora_backend.models.headers import MAX_NAME, read_header
from lora_backend.verification.coverage import coverage, targets_of
from lora_backend.verification.shapes import LoraLayer, canonical_name

LONG = 500_000


@pytest.mark.parametrize(
    "piece", ["-eyJ", "eyJ", "-eyJ0123456789", ":/", ":/a:", ":/a:a@", "sk-", "_hf_", "xoxa-", ".eyJ0123456789."]
)
def test_secrets_are_looked_for_in_linear_time(piece: str) -> None:
    text = piece * (LONG // len(piece))
    redact(text)
    holds_secret("name", text)


@pytest.mark.parametrize("token", ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3.SflKxwRJSMeKKF2QT4", "hf_" + "a" * 20])
@pytest.mark.parametrize("before", ["", "Bearer ", "-", "_", "x-eyJ-"])
def test_a_token_is_still_found(before: str, token: str) -> None:
    assert token not in redact(before + token)


@pytest.mark.parametrize(
    "text", ["1x" + " " * LONG + "a\nb", "1" * LONG + "!", "1" * 3_900 + "!", "1x" + " " * 3_900 + "a\nb"]
)
def test_words_for_gpus_are_read_in_linear_time(text: str) -> None:
    with pytest.raises(DeviceError):
        parse_gpus(text)


def test_numbers_of_thousands_of_digits_are_found_in_linear_time() -> None:
    digits = ("1" * 4_300 + " ") * 100 + "1" * 4_400
    document = parse_config('{"a": [' + digits.replace(" ", ",") + "]}", "json")
    assert not document.is_readable


def header(path: Path, *names: str) -> Path:
    entries = {
        name: {"dtype": "F32", "shape": [1, 1], "data_offsets": [4 * i, 4 * i + 4]} for i, name in enumerate(names)
    }
    text = json.dumps(entries).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4 * len(names)))
    return path


def test_a_tensors_name_has_a_limit(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has more than 1000 characters"):
        read_header(header(tmp_path / "x.safetensors", "0." * MAX_NAME + "x"))


def test_names_of_blocks_are_found_in_linear_time(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    hostile = [f"{number}." + "0." * 480 + "!.weight" for number in range(1_000)]
    header(tmp_path / "model.safetensors", "model.layers.0.mlp.up_proj.weight", "0.a.weight", "a.0.weight", *hostile)
    assert describe_model(tmp_path).linear_names == ("0.a", "model.layers.0.mlp.up_proj")


def test_near_names_are_looked_for_among_few() -> None:
    names = [f"model.layers.0.module_{number}_proj" for number in range(190)]
    layers = [LoraLayer(name, (1, 1), (1, 1)) for name in names]
    config = {"target_modules": [f"modul_{number}_porj" for number in range(20_000)]}
    entries = coverage(config, targets_of(config), layers)
    assert sum(entry.near is not None for entry in entries) == 20


@pytest.mark.parametrize("piece", ["._orig_mod", "._fsdp_wrapped_module", ".base_layer", "._", ".module"])
def test_a_name_is_made_canonical_in_linear_time(piece: str) -> None:
    canonical_name(piece * 100 + "x")
