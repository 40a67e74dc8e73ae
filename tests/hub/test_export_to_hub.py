"""`ship --to hub`: what was made and proved goes up, and nothing before somebody has seen what that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_backend.cli import main
from lora_backend.hub.repository import look_up
from tests.command_line import strict
from tests.hub_server import WRITE, HubServer
from tests.shipping.shipped import made_run, unloadable


def test_an_adapter_goes_up_with_its_card_after_a_last_look(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    run = made_run(unloadable(tmp_path / "base"))
    words = ["ship", run.id, "--to", "hub", "--repo", "anna/shop", "--json", "--lang", "en"]
    assert main([*words, "--yes"]) == 2
    assert "No hub token is set" in strict(capsys.readouterr().out)["error"]
    monkeypatch.setenv("HF_TOKEN", WRITE)
    assert main(words) == 2
    said = capsys.readouterr()
    assert "this is not a terminal" in strict(said.out)["error"]
    assert "Goes to anna/shop. If the repository is new, it is private." in said.err
    assert "adapter_model.safetensors" in said.err
    assert main([*words, "--yes"]) == 0
    said = capsys.readouterr()
    found = strict(said.out)
    assert (found["state"], found["to"], found["output"]) == ("finished", "hub", f"{hub.endpoint}/anna/shop")
    assert {proof["code"]: proof["passed"] for proof in found["proofs"]} == {"tensors": True, "loads": None, "read_back": True}  # fmt: skip
    names = {"README.md", "loss.svg", "adapter_config.json", "adapter_model.safetensors", "flightdeck.json", "config.yaml"}  # fmt: skip
    assert {file["name"] for file in found["files"]} == names
    assert look_up("anna/shop", "main").total_bytes > 0
    assert WRITE not in said.out + said.err
    output = run.path.parent / found["run"] / "output"
    assert not output.exists() or list(output.iterdir()) == [], "nothing is left beside"
