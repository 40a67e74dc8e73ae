"""An adapter written as GGUF, so that llama.cpp puts it on its base model; read back and held against the adapter."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import torch
from safetensors import safe_open

from lora_backend.i18n import N_, Message, Plural
from lora_backend.models.headers import TensorInfo, read_header
from lora_backend.preflight.export_place import GGUF_MARK, ExportError
from lora_backend.runs.processes.job_progress import JobProgress
from lora_backend.runs.record.job_documents import ExportDtype, Proof
from lora_backend.runs.record.provenance import version_of
from lora_backend.shipping.card_facts import CardFacts
from lora_backend.shipping.gguf_layers import GgufLayer, GgufPlan, plan_gguf

TYPES: dict[ExportDtype, tuple[torch.dtype, gguf.GGMLQuantizationType, gguf.LlamaFileType]] = {
    "fp32": (torch.float32, gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "fp16": (torch.float16, gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (torch.bfloat16, gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
}
OF_FILES: dict[str, ExportDtype] = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}
SUFFIXES = (".lora_a", ".lora_b")


class Written(NamedTuple):
    """One tensor as the file holds it."""

    name: str
    tensor: torch.Tensor


def write_gguf(
    adapter: Path, base: Path, output: Path, facts: CardFacts, dtype: ExportDtype | None, progress: JobProgress
) -> GgufPlan:
    """Write the adapter to the new file `output`. `dtype` None: that of the adapter's weights.

    By the conventions of llama.cpp's `convert_lora_to_gguf.py` and `llama-adapter.cpp`: a layer's update there is
    alpha / rank · B·A with one alpha for the whole file, so what PEFT scales otherwise (rsLoRA, patterns) goes into B.
    Raises `ExportError` for what llama.cpp could not read.
    """
    plan = plan_gguf(adapter, base)
    files = _Tensors(adapter)
    kind = dtype or files.dtype
    torch_dtype, raw, file_type = TYPES[kind]
    writer = gguf.GGUFWriter(output, plan.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(GGUF_MARK.decode(), version_of("lora-flightdeck") or "1")
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, plan.alpha)
    writer.add_name(facts.name)
    writer.add_file_type(file_type)
    if facts.base_id:
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, facts.base_id.rpartition("/")[2])
        writer.add_base_model_organization(0, facts.base_id.partition("/")[0])
        writer.add_base_model_repo_url(0, f"https://huggingface.co/{facts.base_id}")
    width = torch_dtype.itemsize
    for layer in plan.layers:
        for suffix, shape in zip(SUFFIXES, _shapes(layer), strict=True):
            writer.add_tensor_info(layer.name + suffix, shape, np.dtype(np.uint16 if width == 2 else np.float32), int(np.prod(shape)) * width, raw)  # fmt: skip
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for number, written in enumerate(_all(plan, files, torch_dtype)):
            writer.write_tensor_data(_as_numpy(written.tensor))
            progress.at((number + 1) / (2 * len(plan.layers)))
    finally:
        writer.close()
    return plan


def proof_of_reading(output: Path, adapter: Path, plan: GgufPlan, dtype: ExportDtype | None) -> Proof:
    """Read the file with gguf's own reader and hold head and every tensor against the adapter's, bit by bit."""
    files = _Tensors(adapter)
    torch_dtype, raw, _ = TYPES[dtype or files.dtype]
    reader = gguf.GGUFReader(output)
    wrong = [key for key, value in _head(plan).items() if _field(reader, key) != value]
    found = {tensor.name: tensor for tensor in reader.tensors}
    count = 0
    for written in _all(plan, files, torch_dtype):
        tensor, count = found.pop(written.name, None), count + 1
        shape = list(reversed(written.tensor.shape))
        is_same = (
            tensor is not None
            and tensor.tensor_type == raw
            and [int(side) for side in tensor.shape] == shape
            and np.array_equal(np.asarray(tensor.data).view(np.uint8).ravel(), _as_numpy(written.tensor).view(np.uint8).ravel())
        )  # fmt: skip
        if not is_same:
            wrong.append(written.name)
    wrong += list(found)
    if wrong:
        said = Plural("{count} tensor or field is not as it was written, first {first}.", "{count} tensors or fields are not as they were written, first {first}.")  # fmt: skip
        return Proof(code="read_back", passed=False, message=Message(said, {"count": len(wrong), "first": wrong[0]}))
    said = Plural(
        "{count} tensor read back, identical bit for bit.", "{count} tensors read back, identical bit for bit."
    )
    return Proof(code="read_back", passed=True, message=Message(said, {"count": count}))


def gguf_commands(name: str, base: str | None) -> list[str]:
    """How llama.cpp and Ollama load the file `name` beside its base model; nobody ran them here."""
    file, model = shlex.quote(name), shlex.quote(base or "BASE_MODEL")
    modelfile = shlex.quote(f"FROM ./base.gguf\nADAPTER ./{name}\n")
    own = shlex.quote(Path(name).stem.lower())
    return [
        f"python llama.cpp/convert_hf_to_gguf.py {model} --outfile base.gguf",
        f"llama-cli -m base.gguf --lora {file} -p Hello",
        f"printf %s {modelfile} > Modelfile && ollama create {own} -f Modelfile && ollama run {own}",
    ]


class _Tensors:
    """The adapter's weights, one tensor at a time."""

    def __init__(self, adapter: Path) -> None:
        self._file_of: dict[str, Path] = {}
        self._info: dict[str, TensorInfo] = {}
        for path in sorted(adapter.glob("adapter_model*.safetensors")):
            header = read_header(path)
            self._file_of |= dict.fromkeys(header, path)
            self._info |= header

    @property
    def dtype(self) -> ExportDtype:
        """Of most tensors: the smallest that loses nothing of any."""
        kinds = {OF_FILES.get(info.dtype) for info in self._info.values()}
        if len(kinds) == 1 and None not in kinds:
            return kinds.pop() or "fp32"
        return "fp32"

    def read(self, name: str) -> torch.Tensor:
        with safe_open(self._file_of[name], framework="pt") as file:
            return file.get_tensor(name)


def _all(plan: GgufPlan, files: _Tensors, dtype: torch.dtype) -> Iterator[Written]:
    for layer in plan.layers:
        for suffix, tensor in zip(SUFFIXES, _halves(layer, plan.alpha, files), strict=True):
            cast = tensor.to(dtype).contiguous()
            if tensor.isfinite().all() and not cast.isfinite().all():
                raise ExportError(N_("{name} has values that {dtype} cannot hold. Choose `--dtype bf16`, or leave it out."), name=layer.layer.name, dtype=str(dtype).removeprefix("torch."))  # fmt: skip
            yield Written(layer.name + suffix, cast)


def _halves(layer: GgufLayer, alpha: float, files: _Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B as llama.cpp multiplies them."""
    a, b = files.read(layer.tensor_a), files.read(layer.tensor_b)
    factor = layer.scaling * layer.rank / alpha
    if factor != 1.0:
        b = (b.double() * factor).to(torch.promote_types(b.dtype, torch.float32))
    if layer.num_heads is not None:  # per head: of two halves of rows, one row of each in turn
        rows = b.shape[0]
        b = b.reshape(layer.num_heads, 2, rows // layer.num_heads // 2, -1).transpose(1, 2).reshape(rows, -1)
    return (a.T if layer.is_embedding else a), b  # of an embedding it looks up rows of A


def _shapes(layer: GgufLayer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    a, b = layer.layer.shape_a, layer.layer.shape_b
    assert a is not None, "the rank check has passed"
    assert b is not None, "the rank check has passed"
    return (tuple(reversed(a)) if layer.is_embedding else a), b


def _as_numpy(tensor: torch.Tensor) -> Any:
    """The bits; numpy has no bfloat16."""
    return tensor.numpy() if tensor.dtype == torch.float32 else tensor.view(torch.int16).numpy().view(np.uint16)


def _head(plan: GgufPlan) -> dict[str, Any]:
    return {
        gguf.Keys.General.TYPE: gguf.GGUFType.ADAPTER,
        gguf.Keys.General.ARCHITECTURE: plan.architecture,
        gguf.Keys.Adapter.TYPE: "lora",
        gguf.Keys.Adapter.LORA_ALPHA: float(np.float32(plan.alpha)),
    }


def _field(reader: gguf.GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()
