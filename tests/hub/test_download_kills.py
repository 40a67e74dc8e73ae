"""SIGKILL at any moment of a download: the model is whole, or absent and gone on from."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.hub.stored import ID, come, model_files, sharded_files, whole_or_absent
from tests.hub_server import HubServer, sha256
from tests.waiting import until

ACTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.symlink", "os.truncate")
"""Of a process upon the disk, before each of which it is killed."""
FORK = multiprocessing.get_context("fork")


def start(target: Callable[[], None]) -> BaseProcess:
    process = FORK.Process(target=target)
    process.start()
    return process


def download() -> None:
    come()


def killed_before_act(number: int, cache: Path) -> bool:
    """Download in a process of its own, killed before its act of this number in the cache. Whether there were so many."""

    def main() -> None:
        left = number

        def act(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in ACTS and any(str(cache) in str(argument) for argument in arguments):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(act)
        come()

    process = start(main)
    process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.soak)])
def test_a_kill_before_any_act_upon_the_disk_leaves_it_whole_or_absent(hub: HubServer, cache: Path, every: int) -> None:
    files = {name: data for name, data in model_files(30_000).items() if name in ("config.json", "tokenizer.json", "model.safetensors")}  # fmt: skip
    hub.add(ID, files)
    come()  # all that is imported is there, and every fork has it
    kills, found = 0, []
    while True:
        shutil.rmtree(cache)
        if not killed_before_act(kills * every, cache):
            break
        kills += 1
        found.append(whole_or_absent(cache, files))
        _, result = come()
        assert result, "the next download makes it whole"
        assert whole_or_absent(cache, files)
    assert kills * every >= 30
    assert found == sorted(found), "once it is found it stays so"
    assert not found[kills // 2], "and it is found at the very end only"


def test_kills_while_bytes_come_keep_what_is_there_and_never_show_it(hub: HubServer, cache: Path) -> None:
    files = sharded_files(400_000)
    wanted = {name: data for name, data in files.items() if not name.startswith(("consolidated", "model.fp16"))}
    hub.add(ID, files)
    hub.pause_s = 0.002
    folder = cache / "models--acme--tiny-model"
    shards = [sha256(data) for name, data in files.items() if name.startswith("model-")]

    def there() -> int:
        return sum(path.stat().st_size for path in (folder / "blobs").glob("*") if path.name[:64] in shards)

    kills, before = 0, 0
    for share in range(1, 10):
        process = start(download)
        goal = share * 80_000
        until(lambda goal=goal: there() >= goal, "bytes")  # type: ignore[misc]
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        assert not list(folder.glob("snapshots/*/config.json"))
        assert there() >= before
        before = there()
    assert kills == 9
    hub.pause_s = 0
    _, result = come()
    assert result
    assert result.downloaded_bytes == sum(map(len, wanted.values())) - before - _small(wanted)
    assert {path.name: path.read_bytes() for path in Path(result.path).iterdir()} == wanted


def _small(files: dict[str, bytes]) -> int:
    """That was whole from the first kill on."""
    return sum(len(data) for name, data in files.items() if name.endswith(".json"))
