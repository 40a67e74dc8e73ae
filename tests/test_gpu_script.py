"""The script for a GPU, run on the CPU: tiny models, and made-up figures where CUDA and NVML would be asked."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.on_gpu import card as card_module
from benchmarks.on_gpu import wheels
from benchmarks.on_gpu.outcome import Outcome
from benchmarks.on_gpu.parts import PARTS, Found, Part, act_safely
from benchmarks.on_gpu.running import in_its_own_process, run_all
from benchmarks.on_gpu.sizes import ON_CARD, ON_CPU, QWEN_7B

NAMES = [part.name for part in PARTS]


class NoCard:
    """The CPU, with memory that somebody made up."""

    name = "no card"
    devices: tuple[str, ...] = ("cpu", "cpu")

    def __init__(self) -> None:
        self.held = count(0, 2**20)

    def allocated_bytes(self) -> int:
        return next(self.held)

    def peak_bytes(self) -> int:
        return 2**33

    def forget_peak(self) -> None:
        pass

    def beside_tensors_bytes(self) -> int | None:
        return None

    def wait(self) -> None:
        pass


def here(part: Part, found: Found, _: float) -> Outcome:
    return act_safely(part, NoCard(), ON_CPU, found)


def test_the_whole_script_gives_one_table_and_one_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.json"
    code = gpu.main([str(out)], NoCard(), ON_CPU, here)
    said = capsys.readouterr().out
    document = json.loads(out.read_text())
    verdicts = {part["part"]: (part["verdict"], part["words"]) for part in document["parts"]}
    assert list(verdicts) == NAMES
    assert document["machine"]["card"] == "no card"
    for name in ("bf16 training", "flat equals padded", "fused LoRA equals PEFT's", "resume to the bit", "layer split"):
        assert verdicts[name][0] == "holds", verdicts[name]
        assert f"{name}  " in said
    for name in ("tokens/s, Flightdeck", "tokens/s, TRL"):
        assert verdicts[name][0] == "measured", verdicts[name]
    assert verdicts["nf4 training"][0] in ("holds", "left out"), verdicts["nf4 training"]
    # The made-up peak is none of this model's: the plan is told not to hold, and the script to have failed.
    assert verdicts["plan against memory"][0] == "fails"
    assert code == 1
    planned = next(part for part in document["parts"] if part["part"] == "plan against memory")
    assert {"no checkpointing", "checkpointing"} == planned["figures"].keys()
    assert planned["figures"]["checkpointing"]["planned"]["weights"] > 0
    ours, trl = (next(part["figures"] for part in document["parts"] if part["part"] == f"tokens/s, {who}") for who in ("Flightdeck", "TRL"))  # fmt: skip
    assert trl["flightdeck_to_trl"] == pytest.approx(ours["tokens_per_s"] / trl["tokens_per_s"])
    assert "14110" in said


def test_without_a_gpu_it_says_so_and_fails_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.json"
    assert gpu.main([str(out)], None) == 0
    assert "no NVIDIA GPU here" in capsys.readouterr().out
    assert not out.exists()


def part_of(act: object, limit_s: float = 60.0, name: str = "a part") -> Part:
    return Part(name, act, limit_s)  # type: ignore[arg-type]


def test_a_missing_package_an_older_release_and_an_error_are_told_and_leave_the_others() -> None:
    def lacks(*_: object) -> Outcome:
        importlib.import_module("no_such_package_at_all")
        raise AssertionError

    def older(*_: object) -> Outcome:
        from transformers import NoSuchThing  # type: ignore[attr-defined]  # noqa: F401

        raise AssertionError

    def broken(*_: object) -> Outcome:
        raise RuntimeError("the card fell off\nand more")

    def good(*_: object) -> Outcome:
        return Outcome("holds", "as it should")

    parts = [part_of(act, name=act.__name__) for act in (lacks, older, broken, good)]
    found = {one.part: (one.verdict, one.words) for one in run_all(parts, here)}
    assert found["lacks"] == ("left out", "the package no_such_package_at_all is not installed")
    assert found["older"][0] == "left out"
    assert "NoSuchThing" in found["older"][1]
    assert found["broken"] == ("fails", "RuntimeError: the card fell off")
    assert found["good"] == ("holds", "as it should")


def test_a_part_over_its_deadline_or_beyond_the_budget_is_left_out_in_words() -> None:
    clock = count(0.0, 30.0)

    def late(part: Part, found: Found, limit_s: float) -> Outcome:
        if part.name == "late":
            raise TimeoutError
        return Outcome("holds", f"within {limit_s:.0f} s", part=part.name)

    parts = [part_of(None, 50.0, name) for name in ("late", "next", "last")]
    found = run_all(parts, late, 150.0, clock.__next__)
    assert [(one.verdict, one.words) for one in found] == [
        ("left out", "it was not done within 50 s"),
        ("holds", "within 50 s"),
        ("left out", "the 150 s for all parts were over"),
    ]


SCRIPT = """
import json, sys, time
name, found, out = sys.argv[2:]
before = json.loads(open(found).read())
if name == "slow":
    time.sleep(600)
if name == "dies":
    sys.exit("killed: out of host memory")
json.dump({"verdict": "holds", "words": f"behind {len(before)}", "part": name}, open(out, "w"))
"""


def test_each_part_has_a_process_that_is_ended_at_its_deadline(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    run = in_its_own_process([sys.executable, str(tmp_path / "script.py")])
    parts = [part_of(None, limit_s, name) for name, limit_s in (("one", 60.0), ("slow", 11.0), ("dies", 60.0), ("two", 60.0))]  # fmt: skip
    assert [(one.part, one.verdict, one.words) for one in run_all(parts, run)] == [
        ("one", "holds", "behind 0"),
        ("slow", "left out", "it was not done within 11 s"),
        ("dies", "fails", "killed: out of host memory"),
        ("two", "holds", "behind 3"),
    ]


def test_one_part_in_its_process_reads_what_was_found_and_writes_what_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(_: object, __: object, found: Found) -> Outcome:
        return Outcome("measured", found["tokens/s, Flightdeck"].words)

    monkeypatch.setattr(gpu, "PARTS", (part_of(seen, name="tokens/s, TRL"),))
    before, out = tmp_path / "found.json", tmp_path / "outcome.json"
    before.write_text(json.dumps([{"verdict": "measured", "words": "14 tokens/s", "part": "tokens/s, Flightdeck"}]))
    assert gpu.main(["--part", "tokens/s, TRL", str(before), str(out)], NoCard()) == 0
    assert json.loads(out.read_text())["words"] == "14 tokens/s"


def test_what_differs_from_the_pins_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert card_module.other_than_pinned() == []
    monkeypatch.setattr(
        card_module, "versions", lambda: {"transformers": "5.17.0", "trl": None, "torch": "2.13.0+cu130"}
    )
    told = card_module.other_than_pinned()
    assert told[0].startswith("transformers 5.17.0 (pinned: ")
    assert told[1].startswith("trl is not installed (pinned: ")
    assert len(told) == 2


def test_the_large_model_is_the_published_one_and_all_parts_fit_into_eight_minutes() -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(**QWEN_7B)
    assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (3584, 18944, 28)
    assert (config.num_attention_heads, config.num_key_value_heads, config.vocab_size) == (28, 4, 152064)
    assert config.rope_parameters["rope_theta"] == 1e6
    assert (ON_CARD.micro_batch, ON_CARD.accumulation, ON_CARD.large_tokens) == (2, 16, 4096)


def test_what_is_missing_is_taken_from_a_folder_of_wheels_and_nothing_else_is_asked() -> None:
    asked: list[list[str]] = []

    def run(command: Sequence[str]) -> int:
        asked.append(list(command))
        return int(command[-1] == "trl")

    told = list(wheels.install("/wheels", run, lambda name: name not in ("peft", "trl")))
    assert [command[-1] for command in asked] == ["peft", "trl"]
    assert all("--no-index" in command and command[-3:-1] == ["--find-links", "/wheels"] for command in asked)
    assert told == ["trl is not installed, and cannot be from /wheels"]
    assert {"torch", "transformers", "peft", "accelerate", "bitsandbytes"} <= set(wheels.wanted())
