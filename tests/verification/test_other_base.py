"""Whether an adapter was made on another base model of the same shapes: by its passport, else by the names of the two."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_backend.models.identity import base_identity
from lora_backend.verification.other_base import other_hub_name
from lora_backend.verification.passport import write_passport
from lora_backend.verification.verdicts import verdict
from tests.verification.damaged_bases import adapter, base
from tests.verification.reports import folder_report, typed

Change = Callable[[dict[str, Any]], Any]


def values(number: int) -> Change:
    """Other weights in the same shapes."""

    def change(tensors: dict[str, Any]) -> None:
        for name, tensor in tensors.items():
            tensors[name] = np.full(tensor.shape, number, tensor.dtype)

    return change


@pytest.fixture
def made_on(tmp_path: Path) -> Path:
    return base(tmp_path / "made on", change=values(1))


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return base(tmp_path / "other", change=values(2))


def held_against(folder: Path, base_name: Path | str) -> dict[str, Any]:
    return folder_report(folder, {"r": 2, "alpha": 4, "model_name": str(base_name)})


def with_passport(folder: Path, base_folder: Path) -> Path:
    config = {"model_name": str(base_folder)}
    write_passport(folder, config=config, starts=[{"base": base_identity(base_folder)}], ranks={})
    return folder


def test_another_model_of_the_same_shapes_is_told_by_its_weights(tmp_path: Path, made_on: Path, other: Path) -> None:
    folder = adapter(tmp_path / "a", made_on)
    assert held_against(folder, made_on)["status"] == "ok"
    report = held_against(folder, other)
    assert (report["status"], report["is_consistent"], report["other_base"]) == ("mismatch", False, str(made_on))
    assert (report["compared"], report["differences"], report["mismatched_layers"]) == ("headers", [], [])
    assert "other_base" in report["warnings"]
    assert verdict(typed(report)).text() == f"The adapter was trained on {made_on}, not on {other}."


def test_a_copy_of_the_same_model_is_no_other(tmp_path: Path, made_on: Path) -> None:
    copy = Path(shutil.copytree(made_on, tmp_path / "copy"))
    for folder in (adapter(tmp_path / "a", made_on), with_passport(adapter(tmp_path / "b", made_on), made_on)):
        assert held_against(folder, copy)["status"] == "ok"


def test_the_passport_tells_it_where_the_model_itself_is_gone(tmp_path: Path, made_on: Path, other: Path) -> None:
    folder = with_passport(adapter(tmp_path / "a", "some/name"), made_on)
    shutil.rmtree(made_on)
    assert held_against(folder, other)["other_base"] == str(made_on)


def test_the_passport_says_more_than_a_name(tmp_path: Path, made_on: Path, other: Path) -> None:
    """The adapter names a folder in which another model stands now."""
    folder = with_passport(adapter(tmp_path / "a", made_on), made_on)
    base(made_on, change=values(3))
    report = folder_report(folder, None)
    assert (report["is_consistent"], report["other_base"]) == (False, str(made_on))


def test_a_config_of_other_words_is_no_other_model(tmp_path: Path, made_on: Path) -> None:
    folder = with_passport(adapter(tmp_path / "a", made_on), made_on)
    facts = json.loads((made_on / "config.json").read_text())
    (made_on / "config.json").write_text(json.dumps(facts | {"use_cache": False}))
    assert held_against(folder, made_on)["status"] == "ok"


def test_a_bare_config_of_other_words_is_no_other_model(tmp_path: Path, made_on: Path) -> None:
    bare = tmp_path / "bare" / "config.json"
    bare.parent.mkdir()
    bare.write_text(json.dumps(json.loads((made_on / "config.json").read_text()) | {"transformers_version": "5"}))
    assert held_against(adapter(tmp_path / "a", made_on), bare)["status"] == "ok"


def test_a_path_of_another_machine_says_nothing(tmp_path: Path, made_on: Path) -> None:
    for name in ("/data/models/one", "models/one", "C:\\models\\one", "", 3, ["a"]):
        folder = adapter(tmp_path / "a", "", {"base_model_name_or_path": name})
        assert held_against(folder, made_on)["status"] == "ok", name


@pytest.mark.parametrize(
    ("name", "own", "is_other"),
    [
        ("qwen/qwen3-8b", "meta-llama/Llama-3.1-8B", True),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct", True),
        ("meta-llama/Llama-3.1-8B", "unsloth/llama-3.1-8b", False),
        ("meta-llama/Llama-3.1-8B", "unsloth/Llama-3.1-8B-unsloth-bnb-4bit", False),
        ("meta-llama/Llama-3.1-8B", "models/mine", False),
        ("/models/llama", "meta-llama/Llama-3.1-8B", False),
        ("meta-llama/Llama-3.1-8B", None, False),
    ],
)
def test_ids_of_the_hub_are_told_by_the_model_and_not_by_who_published_it(
    name: str, own: str | None, is_other: bool
) -> None:
    assert (other_hub_name(name, own) is not None) == is_other


def test_the_adapter_of_another_hub_model_is_not_ok_where_none_of_them_is_here(tmp_path: Path) -> None:
    report = held_against(adapter(tmp_path / "a", "meta-llama/Llama-3.1-8B"), "qwen/qwen3-8b")
    assert (report["is_consistent"], report["compared"]) == (False, None)
    assert report["warnings"] == ["base_not_compared", "other_base"]
