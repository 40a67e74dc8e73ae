"""`check`, `train` and `verify` as a script sees them: exit code, one document on stdout, words on stderr."""

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

from lora_backend.cli import main
from lora_backend.verification.passport import write_passport
from tests.command_line import strict

ROOT = Path(__file__).parents[1]


def call(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lora_backend", *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str | bytes, name: str = "c.yaml") -> str:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize(
    ("text", "code", "error_codes"),
    [
        ("model_name: no/where\n", 0, []), ("model_name: no/where\nr: 0\nlr: 1\n", 1, ["out_of_range", "unknown_key"]), ("r: [\n", 1, ["syntax"]), (b"\xff\xfe", 1, ["syntax"]),
        (b"\x89PNG\r\n", 1, ["syntax"]), ("", 1, ["missing_key"]), ("a" * 600_000, 1, ["syntax"]), ("- a\n", 1, ["syntax"]), ("model_name: no/where\nr: 4\nr: 4\n", 1, ["duplicate_key"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("language", ["en", "zh"])
def test_whatever_is_inside_the_file_is_a_finding(
    text: str | bytes, code: int, error_codes: list[str], language: str, write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", write(text), "--json", "--lang", language]) == code
    document = strict(capsys.readouterr().out)
    assert document["is_valid"] is (code == 0)
    assert [found["code"] for found in document["findings"] if found["severity"] == "error"] == error_codes
    assert main(["check", write(text), "--lang", language]) == code
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "[.nan]", "{a: .inf}"])
def test_the_document_is_json_for_every_reader(value: str, write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", write(f"model_name: no/where\nalpha: {value}\n"), "--json"]) == 1
    assert strict(capsys.readouterr().out)["differences"].keys() == {"model_name", "alpha"}


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (command, path)
        for command in (["check"], ["train"], ["verify"], ["verify", "--config"])
        for path in ("none.yaml", ".", "x" * 300)
        if (command, path) != (["verify"], ".")  # a folder is what verify asks for
    ],
)
def test_a_file_that_cannot_be_read_is_the_wrong_question(
    command: list[str], path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [command[0], path] if len(command) == 1 else ["verify", str(tmp_path), "--config", path]
    assert main([*arguments, "--json"]) == 2
    assert set(strict(capsys.readouterr().out)) == {"error"}
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1


def test_a_base_that_cannot_be_read_is_the_wrong_question(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    config = write("model_name: no/where\n")
    for base in (write("r: [", "bad.yaml"), str(Path(config).with_name("none.yaml"))):
        assert main(["check", config, "--against", base, "--json"]) == 2
        assert set(strict(capsys.readouterr().out)) == {"error"}


def test_two_files_are_compared_across_their_formats(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    one = write("model_name: no/where\nlearning_rate: 1e-4\nr: 8\nalpha: 32.0\n")
    other = write('{"model_name": "no/where", "learning_rate": 0.0001, "r": 4, "alpha": 32}', "c.json")
    assert main(["check", one, "--against", other, "--json"]) == 0
    assert strict(capsys.readouterr().out)["differences"] == {"r": {"default": 4, "value": 8}}
    assert main(["check", one, "--against", one]) == 0
    assert "nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    "extra",
    [
        "r: 4\nr: 4\n",
        "r: '\\ud800'\n",
        'r: "\\ud800"\n',
        "r: 0x" + "f" * 5000 + "\n",
        "? [a]\n: b\n",
        "model_name: ~x/y\n",
        "dataset: ~no-such-user/x\n",
    ],
)
def test_a_real_process_ends_with_an_answer_and_without_a_traceback(extra: str, write: Any) -> None:
    done = call("check", write("seed: 1\n" + extra), "--json")
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1)
    strict(done.stdout)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_terminal_that_knows_no_unicode_is_no_reason_to_fail(language: str, write: Any) -> None:
    done = call("check", write("model_name: no/where\nr: x\n"), "--lang", language, PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "r" in done.stdout


def test_checking_and_verifying_import_no_torch(write: Any, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "target_modules": ["q"]}')
    prefix = "base_model.model.layers.0.q.lora_"
    save_file(
        {f"{prefix}A.weight": np.ones((2, 3)), f"{prefix}B.weight": np.ones((3, 2))},
        adapter / "adapter_model.safetensors",
    )
    script = (
        "import sys; from lora_backend.cli import main\n"
        f"codes = [main(['check', {write('model_name: no/where')!r}]), main(['verify', {str(adapter)!r}, '--json'])]\n"
        "heavy = [name for name in ('torch', 'transformers', 'peft', 'datasets', 'streamlit') if name in sys.modules]\n"
        "print(codes, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[0, 0] []", done.stderr


@pytest.mark.parametrize(
    ("ranks", "own", "code"),
    [((2, 2), {}, 0), ((2, 3), {}, 1), ((3, 3), {}, 1), ((2, 2), {"peft_type": "LOHA"}, 2), ((2, 2), {"rank_pattern": [1]}, None), ((2, 2), {"lora_alpha": "x"}, None)],
)  # fmt: skip
def test_verify_says_yes_no_or_that_it_cannot_be_told(
    ranks: tuple[int, int], own: dict[str, Any], code: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "target_modules": ["q"], **own})
    )
    prefix = "base_model.model.layers.0.q.lora_"
    save_file(
        {f"{prefix}A.weight": np.ones((ranks[0], 3)), f"{prefix}B.weight": np.ones((3, ranks[1]))},
        tmp_path / "adapter_model.safetensors",
    )
    found = main(["verify", str(tmp_path), "--json"])
    document = strict(capsys.readouterr().out)
    assert found == code or (code is None and found in (0, 1, 2))
    assert ("error" in document) == (found == 2)


def test_verify_says_no_where_the_adapter_was_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "target_modules": ["q"]}))
    file, prefix = tmp_path / "adapter_model.safetensors", "base_model.model.layers.0.q.lora_"
    save_file({f"{prefix}A.weight": np.ones((2, 3)), f"{prefix}B.weight": np.ones((3, 2))}, file)
    write_passport(tmp_path, config={}, starts=[], ranks={"layers.0.q": 2})
    assert main(["verify", str(tmp_path), "--json"]) == 0
    save_file({f"{prefix}A.weight": np.zeros((2, 3)), f"{prefix}B.weight": np.ones((3, 2))}, file)
    capsys.readouterr()
    assert main(["verify", str(tmp_path), "--json"]) == 1
    document = strict(capsys.readouterr().out)
    assert document["is_consistent"] is True
    assert [part["part"] for part in document["passport"] if part["verdict"] == "different"] == ["tensors"]


@pytest.mark.parametrize("text", ["r: [", "model_name: [x]\nr: abc\nrank_pattern: 3\n", "target_modules: 3\n"])
def test_verify_against_a_config_that_is_wrong_says_so(
    text: str, write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "target_modules": ["q"]}))
    assert main(["verify", str(tmp_path), "--config", write(text), "--json"]) in (1, 2)
    strict(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("settings", "code"), [(["r=0"], 1), (["r=x"], 1), (["nonsense=1"], 1), (["r"], 2), (["r=4", "alpha=nan"], 1), (["learning_rate=1e-4", "r=["], 1)]
)  # fmt: skip
def test_a_changed_key_is_checked_like_any_other_before_a_run_is_made(
    settings: list[str], code: int, write: Any, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [argument for setting in settings for argument in ("--set", setting)]
    assert main(["train", write("model_name: no/where\n"), *changes, "--json"]) == code
    strict(capsys.readouterr().out)
    assert not (workspace / "runs").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["check"], ["check", "a", "--lang", "fr"], ["train"], ["verify"]]
)
def test_a_command_that_is_none_is_the_wrong_question(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "usage" in capsys.readouterr().err
