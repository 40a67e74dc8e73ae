"""What a hub offers is listed with sizes and hashes at one commit; whatever it refuses is one sentence with a remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from huggingface_hub import constants

from lora_backend.hub.hub_names import HubError
from lora_backend.hub.repository import look_up
from tests.hub.stored import FETCHED, ID, adapter_files, model_files, sharded_files
from tests.hub_server import READ, WRITE, Handler, HubServer, git_sha1, sha256, unreachable


def refused(repo_id: str = ID, revision: str = "main", endpoint: str | None = None) -> str:
    with pytest.raises(HubError) as error:
        look_up(repo_id, revision, endpoint)
    return str(error.value)


def test_only_what_a_model_is_loaded_from_is_fetched_with_its_size_and_hash(hub: HubServer) -> None:
    files = model_files()
    hub.add(ID, files, commit="c" * 40)
    found = look_up(ID)
    assert [file.name for file in found.files] == FETCHED
    assert (found.commit, found.kind, found.gated, found.private, found.refusal) == ("c" * 40, "model", False, False, None)  # fmt: skip
    sizes = {file.name: file.size_bytes for file in found.files}
    assert sizes == {name: len(files[name]) for name in FETCHED}
    hashes = {file.name: file.hash for file in found.files}
    assert hashes["model.safetensors"] == sha256(files["model.safetensors"])
    assert hashes["config.json"] == git_sha1(files["config.json"])
    assert found.total_bytes == sum(len(files[name]) for name in FETCHED)


def test_shards_come_with_their_index_and_without_copies_and_variants(hub: HubServer) -> None:
    hub.add(ID, sharded_files())
    assert [file.name for file in look_up(ID).files] == [
        "config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
    ]  # fmt: skip


def test_an_adapter_is_one_by_its_config(hub: HubServer) -> None:
    hub.add(ID, adapter_files())
    found = look_up(ID)
    assert (found.kind, found.refusal) == ("adapter", None)
    assert [file.name for file in found.files] == ["adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"config.json": b"{}", "pytorch_model.bin": b"x"}, "acme/tiny-model has only pickled weights (pytorch_model.bin), which can run code when they are loaded. Choose a model with safetensors, or a revision that has them, for example --revision refs/pr/1."),
        ({"adapter_config.json": b"{}", "adapter_model.bin": b"x"}, "has only pickled weights (adapter_model.bin)"),
        ({"config.json": b"{}", "model.gguf": b"x"}, "has no weights that can be loaded"),
        ({"README.md": b""}, "is neither a model nor an adapter"),
    ],
)  # fmt: skip
def test_a_repository_without_safetensors_is_refused_by_name(hub: HubServer, files: dict[str, bytes], sentence: str) -> None:  # fmt: skip
    hub.add(ID, files)
    refusal = look_up(ID).refusal
    assert refusal
    assert sentence in refusal.text("en")


def test_a_gated_model_says_where_its_terms_are_until_the_token_may_read_it(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    repo = hub.add(ID, model_files(), gated="manual")
    for token in (None, READ):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        found = look_up(ID)
        assert found.gated
        assert found.refusal
        assert found.refusal.text("en") == (
            f"{ID} is gated: its owner decides who may download it. Accept the terms at {hub.endpoint}/{ID}, then set `HF_TOKEN` to a token for that account."
        )
    repo.accepted.add(READ)
    assert look_up(ID).refusal is None


def test_a_private_one_looks_as_if_it_were_not_there_until_a_token_is_set(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    hub.add(ID, model_files(), private=True)
    for name in (ID, "acme/nothing"):
        assert refused(name) == (
            f"There is no {name} at {hub.endpoint}, or it is private. Check the id; if it is private, set `HF_TOKEN` to a token that can read it."
        )
    monkeypatch.setenv("HF_TOKEN", WRITE)
    assert look_up(ID).private


def test_a_token_that_the_hub_does_not_know_is_said(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(ID, model_files())
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    assert "rejected the token" in refused()
    assert "hf_old" not in refused()


def test_a_revision_is_pinned_to_its_commit(hub: HubServer) -> None:
    hub.add(ID, model_files(), commit="b" * 40, branches=("main", "refs/pr/1"))
    assert {look_up(ID, name).commit for name in ("main", "refs/pr/1", "b" * 40)} == {"b" * 40}
    assert refused(revision="v9") == f"{ID} has no revision v9. Check its name."


def test_a_hub_that_nobody_reaches_is_named_with_its_variable(hub: HubServer) -> None:
    with unreachable() as endpoint:
        sentence = refused(endpoint=endpoint)
    assert sentence.startswith(f"The hub at {endpoint} cannot be reached: ")
    assert "set `HF_ENDPOINT` to a mirror" in sentence
    assert "cannot be reached" in refused(endpoint="no address")


def test_offline_mode_asks_nobody(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "`HF_HUB_OFFLINE` is set" in refused()
    assert hub.requests == []


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda handler: handler.reply(200, b"<html>Sign in</html>"), "is not a hub. Check `HF_ENDPOINT`, and whether a proxy asks for a sign-in."),
        (lambda handler: handler.reply(200, b"[1]"), "does not say what acme/tiny-model contains"),
        (lambda handler: handler.reply(200, b'{"sha": "../../x", "siblings": []}'), "does not say what acme/tiny-model contains"),
        (lambda handler: handler.reply(200, b"[" + b'"x",' * 5_000_000 + b"1]"), "is not a hub"),
        (lambda handler: handler.reply(302, Location=handler.path), "redirects in a circle. Check `HF_ENDPOINT`."),
        (lambda handler: handler.reply(302, Location="file:///etc/passwd"), "cannot be reached"),
        (lambda handler: handler.reply(503), "cannot be reached: it answered 503."),
        (lambda handler: handler.reply(418), "answered 418 for acme/tiny-model."),
    ],
)  # fmt: skip
def test_what_is_no_hub_is_said_in_one_sentence(hub: HubServer, answer: Callable[[Handler], None], sentence: str) -> None:  # fmt: skip
    hub.instead["^/api/"] = answer
    assert sentence in refused()


@pytest.mark.parametrize(
    "repo_id",
    ["gpt2", "", "/", "a/b/c", "../x", "a/..", "a/b--c", "-a/b", "a/b.git", "a/b.", "a" * 60 + "/" + "b" * 60, "a/b\n", "é/b", "https://huggingface.co/a/b", "a/b?x=1"],
)  # fmt: skip
def test_an_id_that_is_none_is_never_asked_for(hub: HubServer, repo_id: str) -> None:
    assert "is not a model on a hub. Write its id as owner/name" in refused(repo_id)
    assert hub.requests == []


@pytest.mark.parametrize("revision", ["", "..", "../main", "a/../b", "/main", "main/", "a b", "x" * 201, "a\0", "-x", "a//b"])  # fmt: skip
def test_a_revision_that_is_none_is_never_asked_for(hub: HubServer, revision: str) -> None:
    assert "is not a revision" in refused(revision=revision)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["../config.json", "/etc/config.json", "a/../../config.json", "a//b", "a\\..\\config.json", "a\x1b[2J"])  # fmt: skip
def test_a_list_with_a_name_that_leads_out_is_refused(hub: HubServer, name: str) -> None:
    hub.add(ID, model_files() | {name: b"x"})
    assert "outside its own folder, so nothing from it is downloaded" in refused()


@pytest.mark.parametrize("changes", [{"size": -1}, {"size": None}, {"size": True}, {"sha256": "../../etc/passwd"}, {"sha256": None}])  # fmt: skip
def test_a_list_without_sizes_and_hashes_is_refused(hub: HubServer, changes: dict[str, Any]) -> None:
    hub.add(ID, model_files(), listing={"model.safetensors": changes})
    assert "does not say the size and the hash of model.safetensors" in refused()


def test_the_list_is_asked_for_once_and_no_more(hub: HubServer) -> None:
    hub.add(ID, model_files())
    look_up(ID)
    assert hub.paths() == [f"/api/models/{ID}/revision/main?blobs=true"]
    assert json.dumps(hub.requests).count("hf_") == 0
