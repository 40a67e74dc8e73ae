"""The proof that an exported adapter loads elsewhere: a fresh process loads it with transformers and peft alone."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from lora_backend.formats import number, size
from lora_backend.i18n import N_, Message
from lora_backend.installation import child_environment
from lora_backend.models.describe import read_json_object
from lora_backend.models.headers import read_folder_headers
from lora_backend.runs.processes.job_progress import JobProgress
from lora_backend.runs.record.job_documents import Proof

PROGRAM = Path(__file__).with_name("plain_load.py")
NUM_IDS = 16
SHARE_OF_MEMORY, LIBRARIES_BYTES = 0.8, 2**30
"""Of what the machine has free, at most; and what torch, transformers and peft take themselves."""
POLL_S = 0.1
MAX_REASON = 300


def proof_of_loading(adapter: Path, base: Path | None, progress: JobProgress) -> Proof:
    """Load `adapter` on `base` in a fresh process. `passed` is None, with the reason, where base model or memory is not
    there. Lets a stop of the job through, and ends the process then."""
    reason = _why_not(base)
    if reason is not None or base is None:
        return Proof(code="loads", passed=None, message=reason or Message("–"))
    question = {"base": str(base), "adapter": str(adapter), "ids": _ids(base)}
    code, out, error = _asked(question, progress)
    try:
        answer = json.loads(out.strip().splitlines()[-1]) if code == 0 else None
    except (ValueError, IndexError):
        answer = None
    if not isinstance(answer, dict):
        last = (error.strip().splitlines() or ["–"])[-1][:MAX_REASON]
        return Proof(code="loads", passed=False, message=Message(N_("A fresh process could not load it: {reason}"), {"reason": last}))  # fmt: skip
    values = {"layers": answer["num_layers"], "change": number(answer["largest_change"])}
    if not answer["is_finite"]:
        return Proof(code="loads", passed=False, message=Message(N_("A fresh process loaded it, but its logits are not numbers.")))  # fmt: skip
    said = N_("A fresh process loaded it with only peft and transformers: {layers} LoRA layers, which change the logits by up to {change}.")  # fmt: skip
    return Proof(code="loads", passed=answer["num_layers"] > 0, message=Message(said, values))


def _why_not(base: Path | None) -> Message | None:
    """Why it is not looked at; None where it can be."""
    if base is None:
        return Message(N_("Not loaded: the base model is not on this machine."))
    weights = sum(tensor.size_bytes for tensor in read_folder_headers(base, "model").values())
    if not weights:
        return Message(N_("Not loaded: the weights of the base model are not on this machine."))
    needed, free = weights + LIBRARIES_BYTES, psutil.virtual_memory().available
    if needed > free * SHARE_OF_MEMORY:
        said = N_("Not loaded: the base model needs about {needed} of memory, but only {free} are free.")
        return Message(said, {"needed": size(needed), "free": size(free)})
    if read_json_object(base / "config.json").get("quantization_config"):
        return Message(N_("Not loaded: the base model is quantized, which needs a GPU and extra libraries."))
    return None


def _ids(base: Path) -> list[int]:
    """Some tokens that the model surely knows."""
    config: dict[str, Any] = read_json_object(base / "config.json")
    inner = config.get("text_config")
    vocab = config.get("vocab_size") or (inner.get("vocab_size") if isinstance(inner, dict) else None)
    most = vocab if isinstance(vocab, int) and vocab > 0 else 1
    return [(7 * place + 1) % min(most, 1000) for place in range(NUM_IDS)]


def _asked(question: dict[str, Any], progress: JobProgress) -> tuple[int, str, str]:
    """Exit code, stdout, stderr; both go to files, so that no pipe fills while nobody reads."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+", errors="replace") as error:
        process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM)], stdin=subprocess.PIPE, stdout=out, stderr=error, text=True,
            env=child_environment(TRANSFORMERS_VERBOSITY="error", HF_HUB_OFFLINE="1"),
        )  # fmt: skip
        try:
            assert process.stdin
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            while process.poll() is None:
                progress.refuse_stop()
                time.sleep(POLL_S)
        except BrokenPipeError:
            process.wait()
        finally:
            process.kill()
            process.wait()
            if process.stdin:
                try:
                    process.stdin.close()
                except BrokenPipeError:
                    pass
        out.seek(0)
        error.seek(0)
        return process.returncode, out.read(), error.read()
