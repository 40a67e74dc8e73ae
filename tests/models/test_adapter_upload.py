"""An adapter that comes through the browser: kept whole in a folder of its own, or one sentence and nothing on the disk."""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from lora_backend.errors import FlightdeckError, ModelError
from lora_backend.installation import Installation, this_installation
from lora_backend.models import adapter_upload
from lora_backend.models.adapter_upload import StoredAdapter, delete_uploaded, store_adapter
from lora_backend.symlinks import LinkRefusedError
from lora_backend.verification.rank_report import check_adapter_folder
from tests.adapter_files import adapter_files, zipped

pytestmark = pytest.mark.usefixtures("workspace")


def store(files: Mapping[str, bytes]) -> StoredAdapter:
    return store_adapter([(name, io.BytesIO(data)) for name, data in files.items()], this_installation())


def uploaded() -> list[str]:
    folder = this_installation().uploaded_adapters
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def refused(files: Mapping[str, bytes], words: str) -> None:
    """One sentence that says so, and nothing on the disk."""
    with pytest.raises(FlightdeckError, match=words) as caught:
        store(files)
    assert "{" not in str(caught.value)
    assert uploaded() == []


@pytest.mark.parametrize("prefix", ["", "my-adapter/", "checkpoint-40/adapter/"])
def test_a_zip_becomes_a_folder_whose_ranks_can_be_checked(prefix: str) -> None:
    stored = store({"shop.zip": zipped(adapter_files(), prefix)})
    assert stored.folder.parent == this_installation().uploaded_adapters
    assert stored.folder.name.startswith("shop-")
    assert {path.name: path.read_bytes() for path in stored.folder.iterdir()} == adapter_files()
    assert check_adapter_folder(stored.folder, None).actual_r_values == {"model.layers.0.self_attn.q_proj": 4}
    assert stored.left_out == ()


def test_loose_files_are_named_by_their_base_model_and_what_is_no_part_of_an_adapter_is_named() -> None:
    stored = store({**adapter_files(), "README.md": b"# mine", "optimizer.pt": b"pickled", "run.sh": b"rm -rf /"})
    assert stored.folder.name.startswith("tiny-")
    assert sorted(path.name for path in stored.folder.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    assert stored.left_out == ("optimizer.pt", "run.sh")


def test_the_same_adapter_twice_is_one_folder_and_another_of_that_name_a_second() -> None:
    first = store({"shop.zip": zipped(adapter_files())})
    assert store({"shop.zip": zipped(adapter_files(), "inside/")}).folder == first.folder
    store({"shop.zip": zipped(adapter_files(rank=2))})
    assert len(uploaded()) == 2


def test_a_folder_that_took_the_place_is_left_as_it_is() -> None:
    first = store({"shop.zip": zipped(adapter_files())}).folder
    (first / "README.md").write_text("somebody's own")
    again = store({"shop.zip": zipped(adapter_files())}).folder
    assert again != first
    assert again.name.startswith(first.name)
    assert (first / "README.md").exists()


def test_what_a_zip_holds_beside_the_adapter_is_not_unpacked_and_a_macs_litter_not_even_named() -> None:
    inner = zipped({"bomb.bin": b"0" * 10_000})
    more = {"__MACOSX/._adapter_config.json": b"x", ".DS_Store": b"x", "inner.zip": inner, "sub/notes.txt": b"x"}
    stored = store({"a.zip": zipped({**adapter_files(), **more})})
    assert set(stored.left_out) == {"inner.zip", "sub/notes.txt"}
    assert len(list(stored.folder.iterdir())) == 2


def with_entry(name: str, data: bytes = b"x", mode: int = 0, flags: int = 0) -> bytes:
    """A good adapter and one entry more."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for own, content in adapter_files().items():
            archive.writestr(own, content)
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        info.flag_bits = flags
        archive.writestr(info, data)
    return packed.getvalue()


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:\\evil", "\\\\host\\evil"])
def test_a_name_that_leads_out_of_the_zip_is_refused(name: str, tmp_path: Path) -> None:
    refused({"a.zip": with_entry(name)}, "would be outside its folder")
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    ("kind", "words"), [(stat.S_IFLNK, "a symbolic link"), (stat.S_IFIFO, "a named pipe"), (stat.S_IFCHR, "a device")]
)
def test_a_link_and_what_is_no_file_is_refused(kind: int, words: str) -> None:
    refused({"a.zip": with_entry("adapter_model-00001-of-00001.safetensors", b"/etc/passwd", kind | 0o777)}, words)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    files = {**adapter_files(), "adapter_model.safetensors": b"\0" * (20 * 2**20)}
    refused({"a.zip": zipped(files)}, "would unpack to 20.00 MiB")


def test_a_bomb_that_lies_about_its_size_stops_at_what_it_said() -> None:
    data = bytearray(zipped({**adapter_files(), "README.md": b"\0" * 2**20}))
    at = data.rfind(b"PK\x01\x02", 0, data.rfind(b"README.md"))
    struct.pack_into("<I", data, at + 24, 10)  # the size in the list of contents
    refused({"a.zip": bytes(data)}, "is damaged or not a zip file|is larger than its zip says")


def test_more_than_may_be_unpacked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(zipped(adapter_files()))
    at = data.rfind(b"PK\x01\x02")
    struct.pack_into("<II", data, at + 20, 2**31 - 1, 2**31 - 1)  # both sizes of the weights
    refused({"a.zip": bytes(data)}, "would unpack to 2.00 GiB")


def test_a_zip_of_too_many_files_is_refused() -> None:
    refused(
        {"a.zip": zipped({**adapter_files(), **{f"{n}.txt": b"" for n in range(2000)}})},
        "2,002 files; the limit is 2,000",
    )


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "contains no adapter"),
        ({"model.safetensors": b"x", "config.json": b"{}"}, "contains no adapter"),
        ({"inner.zip": zipped(adapter_files())}, "contains another archive, inner.zip"),
        ({f"{side}/{name}": data for side in ("one", "two") for name, data in adapter_files().items()}, r"contains 2 adapters \(one, two\)"),
        ({"adapter_config.json": b"{}"}, "has no weights: adapter_model.safetensors is missing"),
        ({"adapter_config.json": b"{}", "adapter_model.bin": b"x"}, "as adapter_model.bin, which may run code"),
        ({**adapter_files(), "adapter_config.json": b"not json"}, "adapter_config.json is not a readable JSON file"),
        ({**adapter_files(), "adapter_config.json": b"[1]"}, "adapter_config.json contains no JSON object"),
        ({**adapter_files(), "adapter_config.json": b'{"r": 4}'}, "has no `peft_type`"),
        ({**adapter_files(), "adapter_model.safetensors": adapter_files()["adapter_model.safetensors"][:-8]}, r"The file adapter_model.safetensors is damaged"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["zip", "files"])
def test_what_is_no_adapter_is_one_sentence(files: dict[str, bytes], words: str, way: str) -> None:
    if way == "zip":
        refused({"a.zip": zipped(files)}, words)
    elif "contains" not in words or "JSON" in words:  # a browser uploads no folders
        refused(files, words)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.zip": b"no zip at all"}, "a.zip is damaged or not a zip file"),
        ({"a.zip": b""}, "a.zip is damaged or not a zip file"),
        ({"a.zip": zipped(adapter_files())[:-30]}, "a.zip is damaged or not a zip file"),
        ({"a.zip": zipped(adapter_files()), "b.txt": b"x"}, "a.zip was uploaded together with other files"),
        ({"one.txt": b"x", "two.txt": b"x"}, "The upload has no adapter_config.json"),
        ({"adapter_model.safetensors": b"x"}, "adapter_model.safetensors has no adapter_config.json"),
    ],
)  # fmt: skip
def test_an_upload_that_is_none_is_one_sentence(files: dict[str, bytes], words: str) -> None:
    refused(files, words)


def test_an_encrypted_zip_is_refused() -> None:
    data = bytearray(zipped(adapter_files()))
    for magic, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        struct.pack_into("<H", data, data.find(magic) + offset, 1)
    refused({"a.zip": bytes(data)}, "is encrypted")


def test_a_file_twice_in_a_zip_is_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        data = with_entry("adapter_config.json")
    refused({"a.zip": data}, "contains 2 adapters|contains adapter_config.json twice")


def test_a_name_that_no_folder_may_have_becomes_one() -> None:
    stored = store({"../../\x1b[31m ☃ эх.zip": zipped(adapter_files())})
    assert stored.folder.parent == this_installation().uploaded_adapters
    assert "/" not in stored.folder.name
    assert "\x1b" not in stored.folder.name


def test_an_upload_that_is_too_large_is_told_where_to_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_upload, "MAX_UPLOAD_BYTES", 100)
    refused(adapter_files(), "the upload limit is 100 B. Put its folder into .*uploaded_adapters")


def test_a_disk_that_is_full_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store(adapter_files())
    assert uploaded() == []


def test_a_link_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    places = this_installation()
    places.workspace.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    places.uploaded_adapters.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LinkRefusedError):
        store(adapter_files())
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_an_upload_left_that_was_killed_goes_with_a_later_one(tmp_path: Path) -> None:
    places = this_installation()
    left, young = (places.uploaded_adapters / f".incoming-{name}" for name in ("old", "new"))
    for folder in (left, young):
        folder.mkdir(parents=True)
    os.utime(left, (0, 0))
    store(adapter_files())
    assert not left.exists()
    assert young.exists()


def test_an_uploaded_adapter_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    places: Installation = this_installation()
    folder = store(adapter_files()).folder
    for other in (
        tmp_path,
        places.workspace,
        places.uploaded_adapters,
        folder / "x",
        folder.parent / ".." / folder.parent.name,
    ):
        with pytest.raises(ModelError, match="is not an uploaded adapter"):
            delete_uploaded(other, places)
    (folder.parent / "link").symlink_to(tmp_path)
    with pytest.raises(LinkRefusedError):
        delete_uploaded(folder.parent / "link", places)
    delete_uploaded(folder, places)
    assert uploaded() == ["link"]
