"""What is known of model and data before a run, and what is said where it cannot be known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from lora_backend.atomic import write_json
from lora_backend.config.rules import GpuFact
from lora_backend.config_checker import check_config_consistency
from lora_backend.data import summary
from lora_backend.hardware.inventory import Gpu
from lora_backend.preflight.facts import Readers
from tests.resolving import from_here
from tests.run_files import make_run
from tests.tiny import chats, make_published, prompts, write_rows


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 2}))
    names = [f"model.layers.{block}.self_attn.{module}" for block in (0, 1) for module in ("q_proj", "v_proj")]
    tensors = {f"{name}.weight": np.zeros((2, 2), np.float32) for name in [*names, "lm_head", "model.embed_tokens"]}
    save_file(tensors, folder / "model.safetensors")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("x")
    return folder


def found(model: Path, **values: Any) -> list[tuple[str, str | None, str]]:
    return [(f.severity, f.key, f.code) for f in from_here({"model_name": str(model), **values}).result.findings]


def test_the_facts_of_a_whole_model_and_its_data(model: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "d.jsonl", chats())
    facts = from_here({"model_name": str(model), "dataset": str(data)}).facts
    assert (facts.num_blocks, facts.has_tokenizer, facts.has_chat_template, facts.row_format) == (
        2,
        True,
        True,
        "messages",
    )
    assert set(facts.linear_modules or ()) >= {"q_proj", "v_proj"}
    assert facts.problems == ()
    assert found(model, dataset=str(data)) == []


def test_a_data_set_is_read_again_only_when_it_has_changed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []

    def counted(path: Path, *how: Any) -> summary.Summary:
        reads.append(path)
        return summarize(path, *how)

    summarize = summary.summarize
    monkeypatch.setattr(summary, "summarize", counted)
    data = write_rows(tmp_path / "d.jsonl", chats())
    values = {"model_name": str(model), "dataset": str(data)}
    first = from_here(values).facts.num_rows
    assert from_here(values).facts.num_rows == first
    assert len(reads) == 1
    write_rows(data, [*chats(), *chats()])
    assert from_here(values).facts.num_rows == 2 * (first or 0)
    assert len(reads) == 2


def test_a_bare_config_json_says_what_it_can(model: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    bare = Path(str(model / "config.json")).rename(tmp_path / "bare/config.json")
    assert from_here({"model_name": str(bare)}).facts.num_blocks == 2
    assert ("error", "target_layers", "layer_beyond_model") in found(bare, target_layers=[2])
    assert not [code for _, _, code in found(bare, target_modules=["nothing"]) if code == "unmatched_target"]


@pytest.mark.parametrize(
    "targets",
    [["lm_head"], ["embed_tokens"], ["q_proj", "lm_head"], ["self_attn.q_proj"], ["model.layers.0.self_attn.v_proj"]],
)
def test_a_module_that_the_model_has_may_be_a_target_in_or_out_of_a_block(targets: list[str], model: Path) -> None:
    assert found(model, target_modules=targets) == []


@pytest.mark.parametrize(
    ("targets", "severity"),
    [(["q_porj"], "error"), (["q_proj", "k_proj"], "warning"), (["layernorm", "x"], "error"), (["model.embed_tokenz"], "error")],
)  # fmt: skip
def test_a_module_that_the_model_does_not_have_is_named(targets: list[str], severity: str, model: Path) -> None:
    assert found(model, target_modules=targets) == [(severity, "target_modules", "unmatched_target")]


@pytest.mark.parametrize(
    ("rows", "template", "expected"),
    [(chats(), True, []), (prompts(), True, []), (prompts(), False, []), (chats(), False, [("error", "dataset", "no_chat_template")])],
)  # fmt: skip
def test_chats_need_a_chat_template(rows: Any, template: bool, expected: Any, model: Path, tmp_path: Path) -> None:
    if not template:
        (model / "chat_template.jinja").unlink()
    assert found(model, dataset=str(write_rows(tmp_path / "d.jsonl", rows))) == expected


def test_a_model_without_a_tokenizer_is_said(model: Path, tmp_path: Path) -> None:
    (model / "tokenizer.json").unlink()
    assert found(model) == [("warning", "model_name", "no_tokenizer")]


@pytest.mark.parametrize("key", ["dataset", "questions"])
def test_data_that_is_not_here_or_bad_is_a_warning_of_the_text(key: str, model: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{")
    assert found(model, **{key: str(tmp_path / "none.jsonl")}) == [("warning", key, f"{key}_unusable")]
    assert found(model, **{key: str(bad)}) == [("warning", key, f"{key}_unusable")]
    assert found(model, **{key: str(tmp_path)}) == [("warning", key, f"{key}_unusable")]


def test_a_damaged_model_is_a_warning_of_the_text(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"x")
    assert found(model) == [("warning", "model_name", "model_name_unusable")]


def test_relative_data_counts_from_the_folder_that_is_given(model: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "d.jsonl", prompts())
    values = {"model_name": str(model), "dataset": "d.jsonl", "questions": "", "r": 4}
    assert from_here(values, base=tmp_path).facts.row_format == "prompt_completion"
    assert from_here(values, base=tmp_path).values == {**values, "dataset": str(tmp_path / "d.jsonl")}


@pytest.mark.parametrize(
    "value",
    [
        "a\0b",
        "\ud800",
        "x" * 300,
        "~no-such-user/x",
        "a--b/c",
        "a/b.git",
        "x/..",
        "a/" + "b" * 300,
        " ",
        ".",
        "..",
        "/",
        "~",
        "a\nb",
        "/dev/null",
        "/proc/self/mem",
    ],
)
@pytest.mark.parametrize("key", ["model_name", "dataset", "questions"])
def test_no_path_makes_a_check_raise(key: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"  # so that the folder above is the test's own as well, and holds no rows
    here.mkdir()
    monkeypatch.chdir(here)
    document = check_config_consistency({"model_name": "no/where", key: value})
    assert any(finding["key"] == key for finding in document["findings"])


def test_a_check_leaves_the_config_as_it_was(model: Path) -> None:
    values = {"model_name": str(model), "target_modules": ["q_proj"], "rank_pattern": {"q": 4}, "dataset": "d.jsonl"}
    before = json.dumps(values)
    check_config_consistency(values)
    assert json.dumps(values) == before


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_no_text_makes_a_check_raise(model_name: str, dataset: str) -> None:
    assert "is_valid" in check_config_consistency({"model_name": model_name, "dataset": dataset})


def test_a_data_set_that_may_not_be_read_is_a_sentence(model: Path, tmp_path: Path) -> None:
    loop = tmp_path / "loop.jsonl"
    loop.symlink_to(loop)
    assert [key for _, key, _ in found(model, dataset=str(loop))] == ["dataset"]


def reading(gpus: tuple[Gpu, ...] = (), disk_free_bytes: int = 2**40) -> Readers:
    return Readers(gpus=lambda _: gpus, disk_free_bytes=lambda folder: disk_free_bytes)


def test_gpus_are_asked_only_where_a_key_depends_on_them(model: Path) -> None:
    def ask(_: object) -> tuple[Gpu, ...]:
        asked.append(True)
        return (Gpu(0, "GPU-0", "NVIDIA T4", 2**34, 0, (7, 5)),)

    asked: list[bool] = []
    readers = Readers(gpus=ask)
    assert from_here({"model_name": str(model), "r": 8}, readers=readers).facts.gpus is None
    assert asked == []
    facts = from_here({"model_name": str(model), "precision": "bf16"}, readers=readers).facts
    assert facts.gpus == (GpuFact("NVIDIA T4", (7, 5), training_flops=65e12),)


def test_the_width_of_the_models_layers_decides_whether_checkpoints_fit_on_the_disk(model: Path) -> None:
    """Two blocks of a 2 × 2 layer each: width 8, so rank 4 takes 4 · 16 · 12 bytes a checkpoint, four times."""
    assert from_here({"model_name": str(model)}).facts.linear_width == {"q_proj": 8, "v_proj": 8}
    for free_bytes, expected in ((4 * 16 * 12 * 4 - 1, ["disk_too_small"]), (4 * 16 * 12 * 4, [])):
        result = from_here({"model_name": str(model), "r": 4, "alpha": 8}, readers=reading((), free_bytes)).result
        assert [finding.code for finding in result.findings] == expected


def test_a_mixture_of_experts_and_the_models_positions_are_known(model: Path) -> None:
    config = {"model_type": "mixtral", "num_hidden_layers": 2, "num_local_experts": 8, "max_position_embeddings": 64}
    (model / "config.json").write_text(json.dumps(config))
    facts = from_here({"model_name": str(model)}).facts
    assert (facts.has_experts, facts.max_positions) == (True, 64)
    assert ("warning", "max_length", "max_length_beyond_positions") in found(model, max_length=65)


def test_a_run_that_will_publish_to_the_same_folder_is_named(model: Path, workspace: Path) -> None:
    values = {"model_name": str(model), "pkg": "a", "version": "v1"}
    folder = make_run(workspace / "runs", config=values, config_text="", argv=None)
    assert from_here(values).facts.output_used_by == folder.id
    assert from_here({**values, "version": "v2"}).facts.output_used_by is None
    write_json(folder.exit_json, {"state": "finished"})
    assert from_here(values).facts.output_used_by is None


def test_what_is_published_already_is_said_before_training(model: Path, workspace: Path) -> None:
    make_published(workspace / "adapters/a/v1")
    assert found(model, pkg="a", version="v1") == [("warning", "version", "already_published")]
    assert found(model, pkg="a", version="v1", overwrite=True) == []
    assert found(model, pkg="a", version="v2") == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_stands_there_and_is_no_adapter_of_ours_is_said_whatever_overwrite_says(
    overwrite: bool, model: Path, workspace: Path
) -> None:
    (workspace / "adapters/a/v1/thesis").mkdir(parents=True)
    (finding,) = from_here(
        {"model_name": str(model), "pkg": "a", "version": "v1", "overwrite": overwrite}
    ).result.findings
    assert (finding.key, finding.code) == ("version", "not_an_adapter")
    assert str(workspace / "adapters/a/v1") in finding.message.text("en")


@pytest.mark.parametrize(
    ("values", "key"),
    [({"output_dir": "."} | {"pkg": "runs", "version": "x"}, "pkg"), ({"output_dir": "data"}, "output_dir")],
)
def test_a_place_where_no_adapter_may_be_is_an_error_of_its_key(
    values: dict[str, str], key: str, model: Path, workspace: Path
) -> None:
    assert found(model, **{"pkg": "a", "version": "v1", "overwrite": True} | values) == [
        ("error", key, "publication_forbidden")
    ]
