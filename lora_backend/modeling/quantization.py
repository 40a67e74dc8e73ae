"""Base models in 4 or 8 bits through bitsandbytes: what is asked of it, and what of the model it has changed.

Nothing else is done to the model, so that its memory is what the formats say. PEFT's
`prepare_model_for_kbit_training` would also cast embedding, head and norms to fp32 and make the embedding's output
require a gradient; neither is needed here: norms compute in fp32 by themselves, Trainer's autocast covers the
rest, and checkpointing is of the kind that follows the adapters' own gradients (`use_reentrant=False`).

Bytes a weight, as stored (measured; per matrix, unquantized parts keep their precision): nf4 with double
quantization 0.5 + 1/64 + 4/(64·256) = 0.51587, and 1,092 bytes of tables for each matrix; int8 1, and 4 bytes for each
output feature. While a layer computes, its weight is there once more in the precision of its input, with nf4 in
forward and in backward, and is kept in neither; a layer in int8 keeps its input for backward.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    CompressedTensorsConfig,
    FineGrainedFP8Config,
    Mxfp4Config,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights
from transformers.pytorch_utils import Conv1D
from transformers.utils import is_bitsandbytes_available
from transformers.utils.quantization_config import QuantizationConfigMixin

from lora_backend.errors import ModelError, UntrainableError
from lora_backend.i18n import N_, Message
from lora_backend.modeling.blocks import find_blocks
from lora_backend.models.quantized import NOT_AGAIN, quantized_as, why_not_again

logger = logging.getLogger(__name__)
FORMATS = ("Params4bit", "Int8Params")
"""Classes of bitsandbytes' parameters; by name, since most models are looked at without it."""
SCALES_OF_NF4 = ("absmax", "code", "offset")
UNPACKING: dict[str, Callable[..., QuantizationConfigMixin]] = {
    "fp8": FineGrainedFP8Config,
    "mxfp8": FineGrainedFP8Config,
    "mxfp4": Mxfp4Config,
    "compressed-tensors": CompressedTensorsConfig,
}
"""Method of a checkpoint → transformers' config, which unpacks the weights when told to."""
HALVES = {torch.bfloat16, torch.float16}
EXPECTED_SHARE = 0.5
"""Of the weights inside blocks; with less of them quantized, the model is larger than its user expects."""


def quantization_config(
    word: str | None, dtype: torch.dtype, base: Mapping[str, Any]
) -> QuantizationConfigMixin | None:
    """transformers' config for `quantization` of a model whose `config.json` is `base`, computing in `dtype`; None
    where its weights are loaded as they are.

    Raises `ModelError` where bitsandbytes is missing or cannot use this machine's device, and where the model comes
    quantized: transformers would take its format and not say so.
    """
    quantized = quantized_as(base)
    if quantized is not None and word is not None:
        raise ModelError("{why} {remedy}", why=why_not_again(quantized), remedy=Message(NOT_AGAIN))
    if quantized is not None and quantized.treatment == "expanded":
        logger.info("the weights are quantized (%s) and unpacked at loading", quantized.method)
        return UNPACKING[quantized.method](dequantize=True)
    if word is None:
        return None
    if not is_bitsandbytes_available():
        raise ModelError(
            N_(
                "`quantization: {word}` needs bitsandbytes, which is not installed. Run `pip install bitsandbytes`, or remove `quantization`."
            ),
            word=word,
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in _supported_devices():
        raise ModelError(
            N_(
                "The bitsandbytes that is installed does not work on {device}, so `quantization: {word}` cannot be used. Install a newer one, or remove `quantization`."
            ),
            device=device,
            word=word,
        )
    if word == "int8":
        # It warns of a cast at every layer of every step.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _supported_devices() -> set[str]:
    import bitsandbytes  # takes a second, and most runs do without

    return set(bitsandbytes.supported_torch_devices)


def settle_quantized(model: PreTrainedModel, word: str | None) -> None:
    """Make a loaded model trainable if it is quantized, and log how much of it is.

    Raises `ModelError` where `quantization` was asked for and no layer took it.
    """
    layers = quantized_layers(model)
    for layer in layers:
        # On a CPU with bf16 instructions the first evaluation would repack nf4 weights into a layout without a
        # backward: adapters below would get no gradient from then on, and nothing would say so.
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    if word is None:
        return
    if not layers:
        raise _nothing_to_quantize(word)
    share = _quantized_share(model)
    level = logging.INFO if share >= EXPECTED_SHARE else logging.WARNING
    logger.log(level, "quantization %s: %s layers, %.1f %% of the weights in blocks", word, len(layers), 100 * share)


def refuse_unquantizable(model: PreTrainedModel, word: str) -> None:
    """Raise `UntrainableError` for a model none of whose layers bitsandbytes would replace (Falcon's are of a class of
    their own), from its modules alone."""
    head = model.get_output_embeddings()
    of_its_class = (module for module in model.modules() if type(module) is nn.Linear or isinstance(module, Conv1D))
    if all(module is head for module in of_its_class):
        raise _nothing_to_quantize(word)


def _nothing_to_quantize(word: str) -> UntrainableError:
    return UntrainableError(
        N_(
            "No layer of the model can be loaded with `quantization: {word}`. Remove it: the model stays as large as it is."
        ),
        about="quantization",
        word=word,
    )


def settle_dtypes(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give what is not packed in a quantized checkpoint the dtype that it would have in a whole one.

    transformers leaves it as its file has it. Norms and routers that a family keeps in fp32 stay so.
    """
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"), no_init_weights():
        whole = AutoModelForCausalLM.from_config(config, dtype=dtype)
    wanted = {name: tensor.dtype for name, tensor in (*whole.named_parameters(), *whole.named_buffers())}
    in_fp32 = tuple(model._get_dtype_plan(dtype))
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name not in wanted or type(tensor).__name__ in FORMATS or wanted[name] not in HALVES | {torch.float32}:
            continue
        is_kept = tensor.dtype == torch.float32 and any(fnmatch(name, f"*{entry}*") for entry in in_fp32)
        if tensor.is_floating_point() and tensor.dtype != wanted[name] and not is_kept:
            tensor.data = tensor.data.to(wanted[name])


def quantized_layers(model: nn.Module) -> list[Any]:
    """The linear layers that bitsandbytes holds in 4 or 8 bits."""
    return [module for module in model.modules() if type(getattr(module, "weight", None)).__name__ in FORMATS]


def scale_bytes(layer: Any) -> int:
    """Bytes of the scales and tables that a quantized layer holds beside its packed weight."""
    state = getattr(layer.weight, "quant_state", None)
    held = [getattr(part, name, None) for part in (state, getattr(state, "state2", None)) for name in SCALES_OF_NF4]
    # int8 scales move from the weight to the layer's state with the first forward.
    held += [getattr(part, "SCB", None) for part in (layer.weight, getattr(layer, "state", None))]
    storages = {tensor.data_ptr(): tensor.untyped_storage() for tensor in held if isinstance(tensor, torch.Tensor)}
    return sum(storage.nbytes() for storage in storages.values())


def _quantized_share(model: PreTrainedModel) -> float:
    """Of the weights inside blocks, the share that is quantized. Experts in one tensor, for one, never are."""
    found = find_blocks(model)
    blocks = found[1] if found else model
    quantized = sum(layer.in_features * layer.out_features for layer in quantized_layers(blocks))
    whole = sum(p.numel() for p in blocks.parameters() if type(p).__name__ not in FORMATS)
    return quantized / max(quantized + whole, 1)
