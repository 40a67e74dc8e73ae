"""Whether a chat's models fit, told from headers and figures alone: on the freest GPU that no run has or wants, else on the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_backend.chats.documents import Sampling
from lora_backend.installation import Installation, this_installation
from lora_backend.models.headers import read_folder_headers
from lora_backend.preflight.chat_room import ChatRoom, chat_room
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.runs.record.job_documents import Column
from tests.chatting.adapters import make_adapter
from tests.hardware.nvml import result_of, stub_environment
from tests.tiny import make_model

NEW = 100


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tmp_path_factory.mktemp("room") / "adapter", tiny_model)


@pytest.fixture
def installation(workspace: Path) -> Installation:
    return this_installation()


def room(base: Path, installation: Installation, *adapters: Path, **options: Any) -> ChatRoom:
    columns = [Column(label="base"), *(Column(label=path.name, adapter=str(path)) for path in adapters)]
    return chat_room(str(base), columns, Sampling(max_new_tokens=NEW), installation, AnyPath(base), **options)


def test_bytes_come_from_headers_at_the_dtype_that_is_computed_in(
    tiny_model: Path, adapter: Path, installation: Installation
) -> None:
    found = room(tiny_model, installation, adapter, prompt_tokens=20)
    value_bytes = 2 if "avx512_bf16" in Path("/proc/cpuinfo").read_text() else 4
    values = sum(info.size_bytes // 4 for info in read_folder_headers(tiny_model, "model").values())
    assert (found.device, found.message) == ("cpu", None)
    assert found.weights_bytes == values * value_bytes
    assert found.adapters_bytes == sum(info.size_bytes for info in read_folder_headers(adapter, "adapter_model").values())  # fmt: skip
    # keys and values of two blocks with two heads of eight each, 120 tokens, two columns
    assert found.cache_bytes == 2 * 2 * 2 * 8 * 120 * 2 * value_bytes
    assert found.needed_bytes < found.free_bytes
    assert (found.is_completion, found.max_positions) == (False, 128)


def test_no_more_tokens_are_counted_than_the_model_reads(tiny_model: Path, installation: Installation) -> None:
    one, other = (room(tiny_model, installation, prompt_tokens=count) for count in (1000, 2000))
    assert one.cache_bytes == other.cache_bytes


def test_what_does_not_fit_is_one_sentence_with_every_figure(tiny_model: Path, installation: Installation) -> None:
    found = room(tiny_model, installation, freed_bytes=-(2**50))
    assert found.message is not None
    said = found.message.text("en")
    assert said.startswith(f"{tiny_model} does not fit this machine's memory: ")
    for part in (" are needed (", " of weights, ", " of adapters, ", " for the 128 tokens of 1 column", "are free"):
        assert part in said
    assert "\n" not in said


def test_a_model_without_a_template_is_told(tmp_path: Path, installation: Installation) -> None:
    assert room(make_model(tmp_path / "bare", chat_template=False), installation).is_completion


GPUS = """
gpu name=Small, uuid=GPU-a, gib=8, used_gib=7, cc=8.0
gpu name=Large, uuid=GPU-b, gib=80, used_gib=2, cc=9.0
"""


def on_gpus(tmp_path: Path, base: Path, description: str, before: str = "") -> Any:
    """The device and the message on a machine with these GPUs; `before` is done first there."""
    environment = stub_environment(tmp_path, description) | {"FLIGHTDECK_WORKSPACE": str(tmp_path / "ws")}
    imports = f"""
from pathlib import Path
from lora_backend.chats.documents import Sampling
from lora_backend.installation import this_installation
from lora_backend.preflight.chat_room import chat_room
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.runs.processes.leases import take
from lora_backend.runs.record.job_documents import Column
here = this_installation()
{before}
found = chat_room({str(base)!r}, [Column(label='base')], Sampling(), here, AnyPath(here.folder))
"""
    return result_of(
        "(found.device, found.device_name.text('en'), found.message and found.message.text('en'))",
        environment,
        imports,
    )


def test_the_freest_gpu_is_taken_and_one_that_a_run_holds_is_not(tmp_path: Path, tiny_model: Path) -> None:
    assert on_gpus(tmp_path, tiny_model, GPUS) == ("GPU-b", "GPU 1 (Large)", None)
    held = "held = take(here.leases, ['GPU-b'], here.runs / 'r1')"
    assert on_gpus(tmp_path, tiny_model, GPUS, held)[0] == "GPU-a"
    both = "held = take(here.leases, ['GPU-a', 'GPU-b'], here.runs / 'r1')"
    assert on_gpus(tmp_path, tiny_model, GPUS, both)[0] == "cpu", "beside a run there is host memory"


def test_a_full_gpu_is_left_to_others_and_the_host_is_used(tmp_path: Path, tiny_model: Path) -> None:
    full = "gpu name=Full, uuid=GPU-a, gib=8, used_gib=7.9, cc=8.0"
    assert on_gpus(tmp_path, tiny_model, full)[0] == "cpu"
