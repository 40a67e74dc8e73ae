"""`ship` as a script sees it: every target, one JSON document, exit codes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from lora_backend.commands.ship import bytes_of
from lora_backend.installation import this_installation
from lora_backend.preflight.export_place import ExportError, is_export
from lora_backend.runs.history.replaced_exports import ExportBin
from lora_backend.runs.record.run_store import RunStore
from tests.command_line import strict
from tests.shipping.shipped import made_adapter, made_run, unloadable
from tests.waiting import until


@pytest.fixture(autouse=True)
def _places(workspace: Path) -> None:
    pass


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return unloadable(tmp_path / "base")


def answered(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = main(["ship", *words, "--json", "--lang", "en"])
    return code, strict(capsys.readouterr().out)


def test_every_target_of_a_run(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_run(base)
    for to, name in (("adapter", "a"), ("adapter", "a.zip"), ("gguf", "a.gguf"), ("card", "card.md")):
        code, found = answered(capsys, run.id, "--to", to, "--output", str(tmp_path / "out" / name))
        assert (code, found["state"], found["to"], found["output"]) == (0, "finished", to, str(tmp_path / "out" / name))
        assert is_export(tmp_path / "out" / name)
        assert all(proof["passed"] is not False for proof in found["proofs"])
        assert RunStore(this_installation().runs / found["run"]).read_record().kind == "export"


def test_without_a_place_it_lies_in_the_job(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_run(base)
    code, found = answered(capsys, str(run.path), "--to", "adapter")
    assert code == 0
    assert Path(found["output"]).parent == this_installation().runs / found["run"] / "output"


def test_text_for_people(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_run(base)
    assert main(["ship", run.id, "--to", "gguf", "--output", str(tmp_path / "a.gguf"), "--lang", "en"]) == 0
    out = capsys.readouterr().out
    assert f"Exported to {tmp_path / 'a.gguf'}: 1 file, " in out
    assert "✓ Read back: passed. 28 tensors read back, identical bit for bit." not in out
    assert "✓ Read back: passed. " in out
    assert "llama-cli -m base.gguf --lora a.gguf" in out


def test_overwrite_replaces_ours_alone_and_keeps_the_old_one(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    run, out = made_run(base), tmp_path / "out.zip"
    assert answered(capsys, run.id, "--to", "adapter", "--output", str(out))[0] == 0
    old = out.read_bytes()
    code, found = answered(capsys, run.id, "--to", "adapter", "--output", str(out))
    assert (code, "There is already an export in" in found["error"]) == (2, True)
    assert answered(capsys, run.id, "--to", "adapter", "--output", str(out), "--overwrite", "--dtype", "bf16")[0] == 0
    assert out.read_bytes() != old
    (binned,) = ExportBin(this_installation()).list()
    assert binned.path.read_bytes() == old
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("years")
    code, found = answered(capsys, run.id, "--to", "adapter", "--output", str(theirs), "--overwrite")
    assert (code, "is not a Flightdeck export" in found["error"]) == (2, True)
    assert (theirs / "thesis.txt").read_text() == "years"


def test_a_damaged_adapter_is_refused_with_the_rank_checks_sentence(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    made_adapter(tmp_path / "a", base)
    config = json.loads((tmp_path / "a/adapter_config.json").read_text())
    (tmp_path / "a/adapter_config.json").write_text(json.dumps(config | {"r": 8}))
    code, found = answered(capsys, str(tmp_path / "a"), "--to", "adapter", "--output", str(tmp_path / "out"))
    assert (code, found["state"]) == (1, "failed")
    assert "is not exported" in found["error"]
    assert "wrong rank" in found["error"]
    assert not (tmp_path / "out").exists()


def test_wrong_questions_end_with_2(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workspace: Path) -> None:  # fmt: skip
    made_adapter(tmp_path / "a", base)
    adapter = str(tmp_path / "a")
    (tmp_path / "b.zip").mkdir()
    for words, said in (
        (["nowhere", "--to", "card"], "nowhere"),
        ([str(base), "--to", "card"], "contains no adapter"),
        (
            [adapter, "--to", "adapter", "--output", str(tmp_path / "b.zip")],
            "is a folder, but the export is a file",
        ),
        ([adapter, "--to", "adapter", "--output", str(workspace / "runs/x.zip")], "for other files"),
        ([adapter, "--to", "adapter", "--rank", "2", "--energy", "0.9"], "Use only one of them"),
        ([adapter, "--to", "adapter", "--rank", "0"], "whole number above 0"),
        ([adapter, "--to", "adapter", "--energy", "2"], "share above 0"),
        ([adapter, "--to", "adapter", "--max-size", "lots"], "such as 20MB"),
        ([adapter, "--to", "hub"], "`--repo OWNER/NAME`"),
        ([adapter, "--to", "hub", "--repo", "a/b", "--output", "x"], "Leave out `--output`"),
        ([adapter, "--to", "card", "--repo", "a/b"], "only with `--to hub`"),
    ):
        code, found = answered(capsys, *words)
        assert code == 2, words
        assert said in found["error"], words


def test_a_run_without_an_adapter(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_run(base)
    run.adapter.rename(run.path / "gone")
    code, found = answered(capsys, run.id, "--to", "card")
    assert (code, "has no adapter" in found["error"]) == (2, True)


def test_detached_it_is_a_job_of_its_own(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_adapter(tmp_path / "a", base)
    code, found = answered(
        capsys, str(tmp_path / "a"), "--to", "card", "--output", str(tmp_path / "card.md"), "--detach"
    )
    job = RunStore(Path(found["path"]))
    until(job.exit_json.exists, "the end")
    assert (code, job.state().state) == (0, "finished"), job.train_log.read_text()
    assert is_export(tmp_path / "card.md")


def test_no_room_is_told_before_a_job_is_made(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_adapter(tmp_path / "a", base, target_modules=["q_proj"])
    shapes = {"lora_A": [4, 2**37], "lora_B": [16, 4]}
    header: dict[str, Any] = {}
    end = 0
    for half, shape in shapes.items():
        begin, end = end, end + 4 * shape[0] * shape[1]
        name = f"base_model.model.model.layers.0.self_attn.q_proj.{half}.weight"
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (tmp_path / "a/adapter_model.safetensors").open("wb") as file:  # with a hole, so it takes nothing itself
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    code, found = answered(capsys, str(tmp_path / "a"), "--to", "adapter", "--output", str(tmp_path / "out/b.zip"))
    assert code == 2
    assert found["error"].startswith(f"This export needs 4096.07 GiB, but {tmp_path} has only ")
    assert found["error"].endswith(" free. Free some space, or choose another place.")
    assert not this_installation().runs.exists()
    assert not (tmp_path / "out").exists()


def test_sizes() -> None:
    assert [bytes_of(words) for words in (None, "20MB", "1.5 GiB", "4096", "3kb")] == [None, 20_000_000, 3 * 2**29, 4096, 3000]  # fmt: skip
    for words in ("", "0", "-1", "MB", "1 XB", "1e9"):
        with pytest.raises(ExportError):
            bytes_of(words)
