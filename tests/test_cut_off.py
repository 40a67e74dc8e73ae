"""Commands whose output goes to a reader that has had enough, as `head` has: no traceback, and exit code 1 where an answer is cut off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lora_backend.installation import child_environment

COMMANDS = [
    ["lora_backend.config_checker"], ["lora_backend.config_checker", "{config}"], ["lora_backend.config_checker", "--help"],
    ["lora_backend.train_lora", "--help"], ["lora_backend", "check", "{config}"], ["lora_backend", "check", "{config}", "--json"],
    ["lora_backend", "check", "{config}", "--against", "{config}"], ["lora_backend", "runs", "list"], ["lora_backend", "runs", "queue"],
    ["lora_backend", "runs", "list", "--json"], ["lora_backend", "export", "{config}", "--to", "axolotl"], ["lora_backend", "--help"],
    ["lora_backend", "check", "{config}.none"],
]  # fmt: skip


def cut_off(module: str, *words: str) -> subprocess.Popen[bytes]:
    """Started with nobody at the other end of its output, and of its log."""
    read, write = os.pipe()
    os.close(read)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", module, *words], env=child_environment(), stdout=write, stderr=subprocess.PIPE
        )
    finally:
        os.close(write)


def test_no_command_complains_that_nobody_reads_on(workspace: Path, tmp_path: Path) -> None:
    config = tmp_path / "good.yaml"
    config.write_text("model_name: m\ndataset: d.jsonl\nr: 4\npkg: shop\nversion: '1'\n")
    ends = {}
    for words in COMMANDS:
        process = cut_off(*(word.format(config=config) for word in words))
        said = process.communicate()[1].decode()
        ends[" ".join(words)] = (process.returncode, said if "Error" in said or "Exception" in said else "")
    asked_wrongly = ends.pop("lora_backend check {config}.none")
    assert asked_wrongly == (2, ""), "it says so on stderr, and nothing on stdout"
    assert {end for command, end in ends.items() if "--help" not in command} == {(1, "")}, ends
    assert not any(said for _, said in ends.values()), ends


def test_a_reader_that_takes_the_first_line_gets_it_whole(workspace: Path) -> None:
    command = f"{sys.executable} -m lora_backend.config_checker --lang en | head -1"
    shown = subprocess.run(["bash", "-c", command], env=child_environment(), capture_output=True, text=True, check=True)
    assert len(shown.stdout.splitlines()) == 1
    assert shown.stderr == ""
