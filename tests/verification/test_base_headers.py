"""An adapter's folder beside its base model's headers: names, halves, widths, vocabulary, ties. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lora_backend.errors import ModelError
from lora_backend.models.headers import MAX_HEADER_BYTES
from lora_backend.verification.verdicts import tone, verdict
from tests.verification.damaged_bases import (
    DAMAGE,
    LINEAR,
    Q1,
    RANK,
    WIDTH,
    WORDS,
    Tensors,
    adapter,
    base,
    lora,
    move,
    zeros,
)
from tests.verification.reports import folder_report, typed


def add(more: Tensors, tensors: Tensors) -> None:
    tensors.update(more)


def become(others: Tensors, tensors: Tensors) -> None:
    tensors.clear()
    tensors.update(others)


def found(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["code"], item["name"]) for item in report["differences"]]


def test_an_adapter_that_fits_its_base_is_green(tmp_path: Path) -> None:
    report = folder_report(adapter(tmp_path / "a", base(tmp_path / "base")), None)
    assert (report["status"], report["compared"], report["differences"], report["warnings"]) == (
        "ok",
        "headers",
        [],
        [],
    )
    assert tone(typed(report)) == "good"
    assert report["base"] == str(tmp_path / "base")


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_adapter_is_not_ok(kind: str, tmp_path: Path) -> None:
    damage, code, name = DAMAGE[kind]
    own = {"modules_to_save": ["lm_head"]} if kind == "vocabulary" else {}
    report = folder_report(adapter(tmp_path / "a", base(tmp_path / "base"), own, damage), None)
    assert (code, name) in found(report)
    assert (report["is_consistent"], report["compared"]) == (False, "headers")
    assert code in report["warnings"]
    assert name in verdict(typed(report)).text()


def test_both_shapes_of_a_tensor_are_told(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", base(tmp_path / "base"), {}, DAMAGE["into"][0])
    (item,) = folder_report(folder, None)["differences"]
    assert (item["file_shape"], item["model_shape"], item["layer"]) == ([RANK, 3], [RANK, WIDTH], Q1)


def test_without_a_base_the_ranks_are_ok_and_amber(tmp_path: Path) -> None:
    for on in ("", str(tmp_path / "gone"), "somebody/model"):
        report = folder_report(adapter(tmp_path / "a", on), None)
        assert (report["status"], report["is_consistent"], report["compared"]) == ("ok", True, None)
        assert report["warnings"] == ["base_not_compared"]
        assert tone(typed(report)) == "doubt"
        assert verdict(typed(report)).text().startswith("Ranks OK, not compared with a base model.")


def test_the_base_that_the_config_names_counts(tmp_path: Path) -> None:
    other = base(tmp_path / "other", {"vocab_size": 4}, lambda t: t.update({f"{Q1}.weight": zeros(5, 5)}))
    folder = adapter(tmp_path / "a", base(tmp_path / "base"))
    report = folder_report(folder, {"r": RANK, "alpha": 4, "model_name": str(other)})
    assert ("other_shape", f"{Q1}.lora_A.weight") in found(report)
    assert (report["base"], report["other_base"]) == (str(other), str(tmp_path / "base"))


def test_embedding_head_magnitudes_and_tokens_are_held_against_the_vocabulary(tmp_path: Path) -> None:
    def more(words: int) -> Callable[[Tensors], None]:
        def change(tensors: Tensors) -> None:
            half = "base_model.model.model.embed_tokens.lora_embedding_"
            tensors |= {f"{half}A": zeros(RANK, words), f"{half}B": zeros(WIDTH, RANK)}
            tensors["base_model.model.model.embed_tokens.base_layer.weight"] = zeros(words, WIDTH)
            tensors |= lora("lm_head", WIDTH, words)
            for name in [name for name in tensors if name.endswith(("lora_B.weight", "embedding_B"))]:
                tensors[f"{name.rpartition('.lora_')[0]}.lora_magnitude_vector"] = zeros(tensors[name].shape[0])

        return change

    on = base(tmp_path / "base")
    modules = [name.rpartition(".")[2] for name in LINEAR]
    own = {"target_modules": [*modules, "embed_tokens", "lm_head"], "use_dora": True}
    report = folder_report(adapter(tmp_path / "a", on, own, more(WORDS)), None)
    assert (report["compared"], report["differences"]) == ("headers", [])
    resized = found(folder_report(adapter(tmp_path / "b", on, own, more(WORDS + 1)), None))
    parts = ("embed_tokens.lora_embedding_A", "embed_tokens.base_layer.weight")
    assert {name for _, name in resized} == {
        *(f"model.{part}" for part in parts),
        "lm_head.lora_B.weight",
        "lm_head.lora_magnitude_vector",
    }


def test_a_magnitude_that_is_gone_is_missed(tmp_path: Path) -> None:
    report = folder_report(adapter(tmp_path / "a", base(tmp_path / "base"), {"use_dora": True}), None)
    assert ("not_from_file", f"{Q1}.lora_magnitude_vector") in found(report)


def test_a_tied_head_is_as_wide_as_the_embedding(tmp_path: Path) -> None:
    on = base(tmp_path / "base", {"tie_word_embeddings": True}, lambda t: t.pop("lm_head.weight"))
    own = {"modules_to_save": ["lm_head"]}
    for words, differences in ((WORDS, []), (WORDS + 1, [("other_shape", "lm_head.weight")])):
        whole = {"base_model.model.lm_head.weight": zeros(words, WIDTH)}
        report = folder_report(adapter(tmp_path / f"{words}", on, own, partial(add, whole)), None)
        assert (report["compared"], found(report)) == ("headers", differences)


def test_a_module_that_is_saved_whole_and_is_not_there_is_missed(tmp_path: Path) -> None:
    report = folder_report(adapter(tmp_path / "a", base(tmp_path / "base"), {"modules_to_save": ["lm_head"]}), None)
    assert found(report) == [("not_from_file", "lm_head.weight")]


def test_a_head_of_another_task_is_no_fault(tmp_path: Path) -> None:
    own = {"task_type": "SEQ_CLS", "modules_to_save": ["classifier", "score"]}
    head = {"base_model.model.score.weight": zeros(2, WIDTH)}
    report = folder_report(adapter(tmp_path / "a", base(tmp_path / "base"), own, partial(add, head)), None)
    assert (report["status"], report["differences"]) == ("ok", [])


def pack(tensors: Tensors) -> None:
    for name in [name for name in tensors if "layers" in name]:
        out, into = tensors[name].shape
        tensors[name] = zeros(out * into // 2, 1, dtype=np.uint8)


OPEN: dict[str, tuple[dict[str, Any], Callable[[Tensors], Any]]] = {
    "packed weights": ({}, pack),
    "packed under another name": ({}, lambda t: move(t, "_proj.weight", "_proj.qweight")),
    "files without the first part": ({}, lambda t: move(t, "model.", "")),
    "files with one part more": ({}, lambda t: move(t, "model.", "language_model.model.")),
    "names that transformers converts": ({"model_type": "mixtral"}, lambda _: None),
    "a part of a kind that transformers converts": ({"text_config": {"model_type": "qwen3_next"}}, lambda _: None),
    "a class that transformers converts": ({"model_type": "gpt_neox"}, lambda _: None),
}


@pytest.mark.parametrize("kind", OPEN)
def test_what_headers_do_not_decide_is_not_compared(kind: str, tmp_path: Path) -> None:
    facts, change = OPEN[kind]
    folder = adapter(tmp_path / "a", base(tmp_path / "base", facts, change))
    report = folder_report(folder, None)
    assert (report["status"], report["compared"], report["warnings"]) == ("ok", None, ["base_not_compared"])
    assert report["not_compared"] is not None


def test_blocks_that_are_in_the_files_alone_are_not_missed(tmp_path: Path) -> None:
    more = {f"model.layers.2.{name}.weight": zeros(*shape) for name, shape in LINEAR.items()}
    report = folder_report(adapter(tmp_path / "a", base(tmp_path / "base", {}, partial(add, more))), None)
    assert (report["differences"], report["compared"]) == ([], None)


def test_a_layer_that_the_config_leaves_out_is_not_missed(tmp_path: Path) -> None:
    def only_first(tensors: Tensors) -> None:
        for name in [name for name in tensors if ".layers.1." in name]:
            del tensors[name]

    for own in ({"layers_to_transform": [0]}, {"target_modules": r".*\.0\..*_proj"}, {"exclude_modules": r".*\.1\..*"}):
        report = folder_report(adapter(tmp_path / "a", base(tmp_path / "base"), own, only_first), None)
        assert (report["differences"], report["compared"]) == ([], "headers"), own


def test_gpt2_keeps_its_weights_the_other_way_round(tmp_path: Path) -> None:
    facts, into, out = {"model_type": "gpt2", "n_layer": 1}, 4, 12
    on = base(
        tmp_path / "base",
        facts,
        partial(become, {"transformer.h.0.attn.c_attn.weight": zeros(into, out)}),
    )
    own = {"target_modules": ["c_attn"], "fan_in_fan_out": True}
    for sides, count in (((into, out), 0), ((out, into), 2)):
        parts = lora("transformer.h.0.attn.c_attn", *sides)
        folder = adapter(tmp_path / str(count), on, own, partial(become, parts))
        assert len(folder_report(folder, None)["differences"]) == count


def test_a_sharded_base_is_read_and_a_damaged_one_is_a_sentence(tmp_path: Path) -> None:
    on = base(tmp_path / "base")
    tensors = load_file(on / "model.safetensors")
    (on / "model.safetensors").unlink()
    places = {name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(tensors)}
    for shard in set(places.values()):
        save_file({name: tensors[name] for name, place in places.items() if place == shard}, on / shard)
    (on / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    folder = adapter(tmp_path / "a", on)
    assert folder_report(folder, None)["compared"] == "headers"
    (on / "model-00002-of-00002.safetensors").write_bytes(b"\xff" * 100)
    report = folder_report(folder, None)
    assert (report["status"], report["warnings"]) == ("ok", ["base_not_compared"])
    assert "model-00002-of-00002" in str(report["not_compared"])


def test_a_base_with_a_header_beyond_what_is_read_is_a_sentence(tmp_path: Path) -> None:
    on = base(tmp_path / "base")
    with (on / "model.safetensors").open("wb") as file:
        file.write((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
        file.truncate(2 * MAX_HEADER_BYTES)  # of which no byte is on the disk
    report = folder_report(adapter(tmp_path / "a", on), None)
    assert (report["status"], report["warnings"]) == ("ok", ["base_not_compared"])
    assert "The header of" in str(report["not_compared"])


def test_a_base_in_the_hubs_cache_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "hub" / "models--some--model" / "snapshots" / "abc"
    base(snapshot)
    (tmp_path / "hub" / "models--some--model" / "refs").mkdir()
    (tmp_path / "hub" / "models--some--model" / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert folder_report(adapter(tmp_path / "a", "some/model"), None)["compared"] == "headers"


def test_a_base_is_only_looked_for_where_the_caller_allows(tmp_path: Path) -> None:
    def refuse(name: str) -> Path:
        raise ModelError("Not here.")

    report = folder_report(adapter(tmp_path / "a", base(tmp_path / "base")), None, find_base=refuse)
    assert (report["compared"], report["not_compared"]["template"]) == (None, "Not here.")


def test_a_rank_that_the_adapters_own_config_does_not_have_is_refused_by_peft(tmp_path: Path) -> None:
    """The config that it is held against asks for the rank of the tensors; PEFT goes by the adapter's own."""
    on = base(tmp_path / "base")
    report = folder_report(adapter(tmp_path / "a", on, {"r": 8}), {"r": RANK, "alpha": 4, "model_name": str(on)})
    assert ("other_shape", f"{Q1}.lora_A.weight") in found(report)
    assert report["is_consistent"] is False
    report = folder_report(adapter(tmp_path / "b", on, {"r": 8, "init_lora_weights": "pissa"}), {"r": RANK, "alpha": 4})
    assert report["differences"] == []
