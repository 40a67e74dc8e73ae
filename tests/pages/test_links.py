"""Pages over folders that somebody planted: what a link names is neither shown nor sent, whichever way leads there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.config.drafts import delete_draft, new_draft, restore_draft
from lora_backend.installation import this_installation
from lora_backend.runs.record.run_store import RunStore
from lora_backend.symlinks import LinkRefusedError
from tests.pages.screens import show, texts
from tests.planted import FILES, NUMBER, SECRET, adapter, holds_secret, planted_run, tree


@pytest.fixture
def outside(tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody's folder, outside of every root."""
    monkeypatch.setenv("FLIGHTDECK_MODEL_ROOTS", str(tmp_path / "models"))
    monkeypatch.setenv("FLIGHTDECK_DATA_ROOTS", str(tmp_path / "data"))
    for name in ("outside", "models", "data"):
        (tmp_path / name).mkdir()
    return tmp_path / "outside"


def sent(at: AppTest) -> str:
    """All that a page sends to the browser, of every element and in every form."""
    parts = [str(at.query_params)]
    for block in (at.main, at.sidebar):
        for element in block:
            proto = getattr(element, "proto", None)
            parts.append(proto.SerializeToString().decode("utf-8", "replace") if proto is not None else "")
            parts.append(str(getattr(element, "value", "")))
    return "\n".join(parts)


def refuses_secrets(at: AppTest, outside: Path, before: dict[str, tuple[int, bytes]]) -> None:
    shown = sent(at)
    assert SECRET not in shown
    assert str(NUMBER) not in shown
    assert tree(outside) == before, "and nobody wrote there"
    assert holds_secret(this_installation().workspace) == []


PAGES = {
    "its page": lambda run: ("runs", {"run": run.id}),
    "the list": lambda run: ("runs", {}),
    "as a copied run": lambda run: ("runs", {"folder": f"runs/{run.id}"}),
    "compared": lambda run: ("runs", {"compare": f"{run.id},{run.id}2"}),
    "verify": lambda run: ("verify", {"run": run.id}),
    "verify its folder": lambda run: ("verify", {"adapter": f"runs/{run.id}/adapter"}),
    "verify its checkpoint": lambda run: ("verify", {"adapter": f"runs/{run.id}/checkpoints/checkpoint-7"}),
    "verify beside": lambda run: ("verify", {"adapter": "adapters/good", "other": f"runs/{run.id}/adapter"}),
    "verify by its config": lambda run: ("verify", {"adapter": "adapters/good", "config": f"runs/{run.id}/config.yaml"}),
    "home": lambda run: ("home", {}),
    "its checkpoint as a folder": lambda run: ("runs", {"folder": f"runs/{run.id}/checkpoints/checkpoint-7"}),
    "base of a draft": lambda run: ("config", {"draft": new_draft(this_installation().drafts, "r: 4\n").id, "base": f"run:{run.id}"}),
    "tried": lambda run: ("playground", {"with": f"run:{run.id}"}),
    "its checkpoint tried": lambda run: ("playground", {"with": f"run:{run.id}/7;run:{run.id}"}),
    "its folder tried": lambda run: ("playground", {"with": f"runs/{run.id}/adapter"}),
    "model": lambda run: ("plan", {"model": f"{run.path}/adapter"}),
}  # fmt: skip
WHOLE = {
    "every file": FILES[1:],
    "run.json": ("run.json",),
    "every folder": ("attempts", "adapter", "checkpoints"),
    "the run": ("",),
}


@pytest.mark.parametrize("links", WHOLE)
@pytest.mark.parametrize("page", PAGES)
def test_a_planted_run_shows_nothing_of_what_its_links_name(
    page: str, links: str, workspace: Path, outside: Path
) -> None:
    run = planted_run(workspace / "runs", outside, WHOLE[links])
    planted_run(workspace / "runs", outside, WHOLE[links], f"{run.id}2")
    adapter(workspace / "adapters/good", "q_proj", 4)
    before = tree(outside)
    name, query = PAGES[page](run)
    refuses_secrets(show(name, **query), outside, before)


def test_its_page_says_which_files_are_links_and_shows_the_rest(workspace: Path, outside: Path) -> None:
    run = planted_run(workspace / "runs", outside, ("train.log", "config.yaml", "labels.json"))
    at = show("runs", run=run.id)
    (sentence,) = [warning.value for warning in at.warning if "symbolic links" in warning.value]
    assert "config.yaml, labels.json, train.log" in sentence.replace("\\", "")
    assert at.title[0].value == "ours"
    assert "log_file" not in [getattr(element, "key", None) for element in at.get("download_button")], (
        "nothing to download"
    )
    assert "The run's config file no longer exists." in texts(at)
    at = show("runs", folder=f"runs/{run.id}")
    assert any("train.log" in warning.value.replace("\\", "") for warning in at.warning)


@pytest.mark.parametrize("button", ["resume_run", "clone_run", "reproduce"])
def test_no_button_of_a_planted_run_follows_a_link(button: str, workspace: Path, outside: Path) -> None:
    run = planted_run(
        workspace / "runs", outside, ("config.yaml", "train.log", "attempts/1.json", "checkpoints/checkpoint-7")
    )
    before = tree(outside)
    at = show("runs", run=run.id)
    at.button(key=button).click().run()
    assert not at.exception
    refuses_secrets(at, outside, before)
    if button == "resume_run":
        assert any("contains symbolic links" in error.value for error in at.error)


@pytest.mark.parametrize("name", ["secret.jsonl", "{outside}/secret.jsonl", "../outside/secret.jsonl"])
def test_the_files_that_a_copied_run_names_outside_the_roots_are_not_read(
    name: str, workspace: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(outside)  # from which a relative path must not count either
    (outside / "secret.jsonl").write_text("{}\n")
    dataset, sha256 = name.format(outside=outside), hashlib.sha256(b"{}\n").hexdigest()
    run = planted_run(workspace / "runs", outside, ())
    recorded = json.loads(run.run_json.read_text())
    recorded |= {"data_sha256": sha256, "base": {"config_sha256": sha256}}
    recorded["config"] |= {"dataset": dataset, "model_name": str(outside)}
    run.run_json.write_text(json.dumps(recorded))
    at = show("runs", run=run.id)
    at.button(key="reproduce").click().run()
    assert not at.exception
    said = [warning.value.replace("\\", "") for warning in at.warning]
    refused = sum("is outside the folders that the browser may use" in sentence for sentence in said)
    assert refused == (1 if name == "secret.jsonl" else 2)  # which counts from the data roots, where it is not
    assert not any("not the same as before" in sentence for sentence in said)
    (hashes,) = [table.value.iloc[0].tolist() for table in at.table if "Hash of the data" in str(table.value.index)]
    assert hashes == [sha256[:16], "cannot be read"]


def test_tags_and_note_of_a_planted_run_are_written_into_it_alone(workspace: Path, outside: Path) -> None:
    run = planted_run(workspace / "runs", outside, ("labels.json",))
    (run.path / "labels.lock").symlink_to(outside / "made-by-a-lock")
    before = tree(outside)
    at = show("runs", run=run.id)
    at.text_area(key=f"note-{run.id}").set_value("my note").run()
    assert not at.exception
    assert any("labels.lock is a symbolic link" in toast.value.replace("\\", "") for toast in at.toast)
    (run.path / "labels.lock").unlink()
    at.text_area(key=f"note-{run.id}").set_value("my other note").run()
    assert json.loads((run.path / "labels.json").read_text())["note"] == "my other note"
    refuses_secrets(at, outside, before)


DRAFT_LINKS = ["config.yaml", "history", "history/1.yaml", "history/position", "launches", "launches/0", "bases/b.yaml", "bases", "imported/i.yaml", "imported", "table.txt", "table_tag.txt", "draft.lock", "launch.lock", ""]  # fmt: skip


@pytest.mark.parametrize("link", DRAFT_LINKS)
def test_a_planted_draft_shows_and_writes_nothing_behind_its_links(link: str, workspace: Path, outside: Path) -> None:
    drafts = this_installation().drafts
    theirs, ours = (
        new_draft(root, f"model_name: {word}\nr: 4\n") for root, word in ((outside, SECRET), (drafts, "ours"))
    )
    for draft, word in ((theirs, SECRET), (ours, "ours")):
        draft.save(f"model_name: {word}\nr: 8\n")
        draft.keep_table(table=f"r\n{word}\n", tag=word)
        for folder, name in (("bases", "b.yaml"), ("imported", "i.yaml")):
            draft.keep_beside(folder, name, f"model_name_or_path: {word}\nfinetuning_type: lora\n")
        draft.launch_once(0, lambda word=word: word)  # type: ignore[misc]
    place = ours.path / link
    if place.exists():
        place.rename(outside / f"taken-{link.replace('/', '-')}")
    place.symlink_to(theirs.path / link)
    before = tree(outside)
    at = show("config", draft=ours.id, base="file:b.yaml")
    refuses_secrets(at, outside, before)
    for key in ("undo", "redo"):
        if key in [button.key for button in at.button] and not at.button(key=key).disabled:
            at.button(key=key).click().run()
            assert not at.exception
            refuses_secrets(at, outside, before)
    if fields := [field for field in at.number_input if field.label == "r"]:
        fields[0].set_value(16).run()
        assert not at.exception
    refuses_secrets(at, outside, before)
    refuses_secrets(show("config"), outside, before)


@pytest.mark.parametrize("act", [delete_draft, restore_draft])
def test_a_bin_of_drafts_that_is_a_link_is_refused(act: Callable[..., object], workspace: Path, outside: Path) -> None:
    drafts = this_installation().drafts
    draft = new_draft(drafts, "r: 4\n")
    if act is restore_draft:
        draft.path.rename(outside / draft.id)
    (drafts / ".bin").symlink_to(outside)
    before = tree(outside)
    with pytest.raises(LinkRefusedError, match=r"\.bin is a symbolic link"):
        act(drafts, draft.id)
    assert tree(outside) == before


def test_an_adapter_in_the_hubs_cache_is_verified_and_one_with_a_link_out_is_named(
    workspace: Path, outside: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "models/models--a--b"
    made, snapshot = adapter(tmp_path / "made", "q_proj", 4), repository / "snapshots/1234"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, file in enumerate(made.iterdir()):
        file.rename(repository / f"blobs/{number}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    at = show("verify", adapter=str(snapshot))
    said = " ".join(box.value for kind in ("success", "error", "info") for box in at.get(kind))
    assert "symbolic link" not in said
    assert "LoRA layer" in said
    theirs = adapter(outside / "theirs", SECRET, NUMBER)
    (snapshot / "adapter_config.json").unlink()
    (snapshot / "adapter_config.json").symlink_to(theirs / "adapter_config.json")
    before = tree(outside)
    for page, key in (("verify", "adapter"), ("runs", "folder")):
        at = show(page, **{key: str(snapshot)})
        said = " ".join(box.value for kind in ("error", "warning") for box in at.get(kind)).replace("\\", "")
        assert "adapter_config.json in " in said
        assert "is a symbolic link to a place outside" in said
        refuses_secrets(at, outside, before)


def test_a_model_whose_config_is_a_link_out_of_the_roots_is_refused(
    workspace: Path, outside: Path, tmp_path: Path
) -> None:
    (outside / "config.json").write_text(json.dumps({"num_hidden_layers": NUMBER, "model_type": SECRET}))
    (tmp_path / "models/m").mkdir()
    (tmp_path / "models/m/config.json").symlink_to(outside / "config.json")
    before = tree(outside)
    draft = new_draft(this_installation().drafts, f"model_name: {tmp_path / 'models/m'}\ntarget_layers: [1]\n")
    for page, query in (("config", {"draft": draft.id}), ("plan", {"model": str(tmp_path / "models/m")})):
        at = show(page, **query)
        refuses_secrets(at, outside, before)
        assert "is a symbolic link to a place outside" in texts(at).replace("\\", ""), page


def test_addresses_with_links_out_of_the_workspace_are_refused(workspace: Path, outside: Path) -> None:
    theirs = adapter(outside / "theirs", SECRET, NUMBER)
    (outside / "secret.yaml").write_text(f"model_name: {SECRET}\nr: {NUMBER}\n")
    (workspace / "sub").mkdir(parents=True)
    (workspace / "sub/adapter").symlink_to(theirs)
    (workspace / "sub/c.yaml").symlink_to(outside / "secret.yaml")
    adapter(workspace / "good", "q_proj", 4)
    before = tree(outside)
    for page, query in [
        ("verify", {"adapter": "sub/adapter"}),
        ("verify", {"adapter": "good", "other": "sub/adapter"}),
        ("verify", {"adapter": "good", "config": "sub/c.yaml"}),
        ("runs", {"folder": "sub/adapter"}),
        ("plan", {"model": f"{workspace}/sub/adapter"}),
    ]:
        refuses_secrets(show(page, **query), outside, before)


def test_a_pipe_in_the_place_of_a_log_makes_no_page_wait(workspace: Path, outside: Path) -> None:
    run: RunStore = planted_run(workspace / "runs", outside, ())
    run.train_log.unlink()
    os.mkfifo(run.train_log)
    assert show("runs", run=run.id).title[0].value == "ours"


def test_what_is_looked_for_is_seen_where_it_is_shown(workspace: Path, outside: Path) -> None:
    """The same run without links has its words on its pages, so the tests above look in the right places."""
    run = planted_run(workspace / "runs", outside, ())
    for page in ("its page", "the list", "as a copied run", "verify", "base of a draft"):
        name, query = PAGES[page](run)
        assert "ours" in sent(show(name, **query)), page
