"""Chats on disk: whole or absent, out of reach of ids that lead elsewhere, and back after a delete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_backend.chats.chat_store import MAX_CHAT_BYTES, ChatStore
from lora_backend.chats.documents import Chat, Reply, Sampling, TokenKl, Turn
from lora_backend.errors import ChatError
from lora_backend.runs.record.job_documents import Column


@pytest.fixture
def store(tmp_path: Path) -> ChatStore:
    return ChatStore(tmp_path / "chats", lambda: 1_700_000_000.0)


def a_chat(store: ChatStore, **changes: object) -> Chat:
    reply = Reply(text="noon", ended="end", num_tokens=1, tokens=[TokenKl(text="noon", kl=0.5)])
    chat = Chat(
        id=store.new_id(), created_at=1.0, base_model="base", columns=[Column(label="base"), Column(label="a", adapter="/a")],
        sampling=Sampling(temperature=0.7, stop=["\n"]), turns=[Turn(prompt="when", replies={"base": reply})],
    )  # fmt: skip
    return chat.but(**changes)


def test_what_is_written_is_read_again(store: ChatStore) -> None:
    chat = a_chat(store)
    store.write(chat)
    assert store.read(chat.id) == chat
    assert [found.id for found in store.list()] == [chat.id]
    assert json.loads((store.folder / f"{chat.id}.json").read_text())["format"] == 1


def test_the_newest_chat_is_listed_first_and_ids_differ(store: ChatStore) -> None:
    chats = [a_chat(store, created_at=float(number)) for number in range(3)]
    for chat in chats:
        store.write(chat)
    assert len({chat.id for chat in chats}) == 3
    assert [found.created_at for found in store.list()] == [2.0, 1.0, 0.0]


def test_a_wrong_field_costs_no_other_and_what_is_no_chat_is_not_listed(store: ChatStore) -> None:
    chat = a_chat(store)
    store.write(chat)
    path = store.folder / f"{chat.id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "system": 5, "sampling": "hot"}))
    assert (store.read(chat.id).system, store.read(chat.id).sampling) == ("", Sampling())
    assert store.read(chat.id).turns == chat.turns
    for name, text in {"b": "", "c": "[]", "d": "{", "e": '{"format": 99}', "f": "null"}.items():
        (store.folder / f"{name}.json").write_text(text)
    assert [found.id for found in store.list()] == [chat.id]
    with pytest.raises(ChatError, match="newer version"):
        store.read("e")


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/b", "/etc/passwd", ".deleted", "a\0b", "a" * 200, "a.json", "-a"]
)
def test_an_id_leads_nowhere_else(name: str, store: ChatStore) -> None:
    (store.folder.parent / "x.json").write_text("{}")
    store.folder.mkdir()
    for act in (store.read, store.delete, store.undelete):
        with pytest.raises(ChatError, match="does not exist; it may have been deleted"):
            act(name)
    with pytest.raises(ChatError):
        store.write(a_chat(store, id=name))
    assert not any(store.folder.iterdir())


def test_a_link_in_the_place_of_a_chat_is_not_read(store: ChatStore, tmp_path: Path) -> None:
    chat = a_chat(store)
    store.write(chat)
    (tmp_path / "other.json").write_text((store.folder / f"{chat.id}.json").read_text())
    (store.folder / "linked.json").symlink_to(tmp_path / "other.json")
    with pytest.raises(ChatError):
        store.read("linked")
    assert [found.id for found in store.list()] == [chat.id]


def test_a_deleted_chat_comes_back_as_it_was(store: ChatStore) -> None:
    chat = a_chat(store)
    store.write(chat)
    store.delete(chat.id)
    assert store.list() == []
    with pytest.raises(ChatError, match="does not exist; it may have been deleted"):
        store.read(chat.id)
    store.undelete(chat.id)
    assert store.read(chat.id) == chat
    store.delete(chat.id)
    store.write(chat.but(title="another"))
    with pytest.raises(ChatError, match="has taken its place"):
        store.undelete(chat.id)
    assert store.read(chat.id).title == "another"


def test_a_chat_that_could_not_be_read_again_is_not_written(store: ChatStore) -> None:
    chat = a_chat(store)
    store.write(chat)
    with pytest.raises(ChatError, match=r"the limit is 8\.00 MiB"):
        store.write(chat.but(system="x" * (MAX_CHAT_BYTES // 2 + 1)))
    assert store.read(chat.id) == chat
