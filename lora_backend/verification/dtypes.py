"""Whether the tensors of an adapter are of a dtype that a LoRA can have, from what its file says of each."""

from __future__ import annotations

from collections.abc import Mapping

from lora_backend.verification.adapter_folder import split_lora_key
from lora_backend.verification.differences import Difference
from lora_backend.verification.shapes import WRAPPER_PREFIXES, layer_of_tensor

FITTING = frozenset({"F64", "F32", "F16", "BF16", "float64", "float32", "float16", "bfloat16"})
"""By the names of safetensors and of torch: what a LoRA is trained, saved and loaded in. PEFT copies any other number
into its own dtype without a word: bytes of a quantized tensor as if they were its values."""


def dtype_differences(dtypes: Mapping[str, str]) -> list[Difference]:
    """What is named of `dtypes` (tensor → dtype, as safetensors or torch writes it): a tensor that no LoRA is made of,
    and the halves of a layer that are of two dtypes, for only a part of them was converted then."""
    plain = {name: dtype.removeprefix("torch.") for name, dtype in dtypes.items()}
    wrong = {name for name, dtype in plain.items() if dtype not in FITTING}
    layers: dict[str, list[str]] = {}
    for name in plain:
        if half := split_lora_key(name):
            layers.setdefault(half[0], []).append(name)
    for names in layers.values():
        if len({plain[name] for name in names}) > 1:
            wrong.update(names)
    return [
        Difference("unfit_dtype", name.removeprefix(WRAPPER_PREFIXES[0]), layer_of_tensor(name), dtype=plain[name])
        for name in plain
        if name in wrong
    ]
