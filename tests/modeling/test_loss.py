"""The loss in pieces is the model's own loss: same value, same gradients, a fraction of the memory; or it is refused."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    GraniteConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    PreTrainedModel,
)

from lora_backend.errors import ModelError
from lora_backend.modeling import step
from lora_backend.modeling.loss import ChunkedLoss
from lora_backend.modeling.loss_check import verified_chunked_loss
from lora_backend.modeling.step import LossPath
from tests.modeling.families import CONFIGS, HEADS, SMALL, linear_endings
from tests.run_files import points_of
from tests.training.helpers import failed_run, run

Make = Callable[..., dict[str, Any]]
TILE = 4 * 32 * 5
"""Bytes of a tile of five tokens, for a vocabulary of 32; the rows below have 18 that are labelled."""
FAMILIES: dict[str, Any] = {
    **CONFIGS,
    "cohere": CohereConfig(**SMALL, intermediate_size=24, num_hidden_layers=2, logit_scale=0.3, pad_token_id=0, **HEADS),
    "granite": GraniteConfig(**SMALL, intermediate_size=24, num_hidden_layers=2, logits_scaling=3.0, **HEADS),
}  # fmt: skip


def fresh(config: Any, **lora: Any) -> PeftModel:
    """A model of that config with an adapter whose halves both are something."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(lora.pop("dtype", torch.float32))
    targets = lora.pop("target_modules", None) or linear_endings(model)
    wrapped = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=targets, init_lora_weights=False, **lora)
    )
    return wrapped.eval()  # some families come with dropout


def rows(vocabulary: int = 32, length: int = 12) -> dict[str, torch.Tensor]:
    """Two rows; the second is padded, and of each the first tokens carry no label."""
    ids = torch.arange(2 * length).reshape(2, length) * 7 % vocabulary
    labels, mask = ids.clone(), torch.ones_like(ids)
    labels[:, :2] = -100
    labels[1, -2:], mask[1, -2:] = -100, 0
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def one_line(model: PeftModel) -> dict[str, Any]:
    """Two examples one behind the other, without padding; the first of each predicts nothing across the border."""
    lengths = (9, 6)
    ids = torch.arange(sum(lengths))[None] * 7 % 32
    labels = ids.clone()
    labels[0, [0, 1, 9]] = -100
    batch: dict[str, Any] = {"input_ids": ids, "labels": labels, "use_cache": False}  # as a training step calls it
    if "position_ids" in inspect.signature(model.get_base_model().forward).parameters:
        batch["position_ids"] = torch.cat([torch.arange(length) for length in lengths])[None]
    return batch


def loss_and_gradients(
    model: PeftModel, chunked: ChunkedLoss | None, **batch: Any
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    if chunked:
        with chunked.active():
            output = model(**batch)
        assert output.logits is None
    else:
        output = model(**batch)
    output.loss.backward()
    return output.loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(model: PeftModel, chunked: ChunkedLoss, tolerance: float = 1e-6, **batch: Any) -> None:
    own_loss, own = loss_and_gradients(model, None, **batch)
    loss, gradients = loss_and_gradients(model, chunked, **batch)
    assert loss.item() == pytest.approx(own_loss.item(), rel=tolerance)
    assert gradients.keys() == own.keys()
    for name, gradient in gradients.items():
        assert (gradient - own[name]).norm() <= 10 * tolerance * own[name].norm() + 1e-12, name
    assert any(gradient.abs().sum() > 0 for gradient in gradients.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_the_model(family: str) -> None:
    model = fresh(FAMILIES[family])
    verified_chunked_loss(model)
    assert_same(model, ChunkedLoss(model, tile_bytes=TILE), **rows())


@pytest.mark.parametrize("items", [None, 40])
@pytest.mark.parametrize("family", FAMILIES)
def test_so_they_are_for_examples_in_one_line(family: str, items: int | None) -> None:
    model = fresh(FAMILIES[family])
    path = LossPath.verified(model, "auto", "fp32")
    assert path.chunked
    path.chunked.tile_bytes = TILE
    divided = {"num_items_in_batch": items} if items and path.takes_count else {}
    assert_same(model, path.chunked, **one_line(model), **divided)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize(
    "head",
    [
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
    ],
)
def test_what_trains_in_head_and_embedding_gets_its_gradient(family: str, head: dict[str, Any]) -> None:
    model = fresh(FAMILIES[family], **head)
    verified_chunked_loss(model)
    assert_same(model, ChunkedLoss(model, tile_bytes=TILE), **rows())


@pytest.mark.parametrize("items", [7, torch.tensor(40)])
def test_a_batch_that_is_part_of_an_accumulated_one_is_divided_by_all_of_its_tokens(items: Any) -> None:
    model = fresh(FAMILIES["llama"])
    assert_same(model, ChunkedLoss(model, tile_bytes=TILE), **rows(), num_items_in_batch=items)


def test_leaving_tokens_without_a_label_in_changes_nothing() -> None:
    model = fresh(FAMILIES["llama"], modules_to_save=["lm_head"])
    assert_same(model, ChunkedLoss(model, tile_bytes=TILE, labelled=1.0), **rows())


@pytest.mark.parametrize("lora", [{}, {"modules_to_save": ["lm_head"]}, {"target_modules": ["q_proj", "lm_head"]}])
def test_under_bf16_autocast_they_differ_by_no_more_than_its_rounding(lora: dict[str, Any]) -> None:
    """bf16 has 8 bits; the two ways round the scaled and the unscaled gradient of the logits."""
    model = fresh(FAMILIES["llama"], dtype=torch.bfloat16, **lora)
    assert {p.dtype for name, p in model.named_parameters() if "lora_" in name} == {torch.float32}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        verified_chunked_loss(model)
    chunked = ChunkedLoss(model, tile_bytes=TILE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        own = model(**rows()).loss
    own.backward()
    wanted = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with chunked.active(), torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**rows()).loss
    loss.backward()
    assert loss.item() == pytest.approx(own.item(), rel=1e-4)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        assert (gradient - wanted[name]).norm() <= 0.05 * wanted[name].norm(), name


def test_checkpointing_goes_with_it() -> None:
    model = fresh(FAMILIES["llama"]).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert_same(model, ChunkedLoss(model, tile_bytes=TILE), **rows())


def test_a_model_spread_over_devices_by_accelerate_gives_the_same() -> None:
    torch.manual_seed(0)
    base = LlamaForCausalLM(FAMILIES["llama"])
    places = {"model.embed_tokens": "cpu", "model.layers": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu"}
    base = dispatch_model(base, {**places, "lm_head": "cpu"}, main_device="cpu", force_hooks=True)
    assert hasattr(base, "_hf_hook")
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights=False))
    model.train()
    verified_chunked_loss(model)
    assert_same(model, ChunkedLoss(model, tile_bytes=TILE), **rows())


def test_without_labels_and_afterwards_the_model_is_its_own() -> None:
    model = fresh(FAMILIES["llama"])
    chunked = ChunkedLoss(model)
    wanted = model(input_ids=rows()["input_ids"]).logits
    with chunked.active():
        assert torch.equal(model(input_ids=rows()["input_ids"]).logits, wanted)
        model(**rows()).loss.backward()
    assert model(**rows()).logits.shape == (2, 12, 32)
    assert not {"forward", "_old_forward"} & vars(chunked.causal).keys()
    assert not any("forward" in vars(module) for module in chunked.backbones)


def test_a_batch_without_a_label_changes_nothing() -> None:
    model = fresh(FAMILIES["llama"])
    batch = rows()
    batch["labels"] = torch.full_like(batch["labels"], -100)
    loss, gradients = loss_and_gradients(model, ChunkedLoss(model), **batch, num_items_in_batch=5)
    assert loss == 0
    assert all(gradient.abs().sum() == 0 for gradient in gradients.values())


# ------------------------------------------------------------------------------------------ memory


class LiveBytes(TorchDispatchMode):
    """Peak of the bytes of all storages made within the block."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.known:
                    self.known.add(storage._cdata)
                    self.live += storage.nbytes()
                    weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result

    def _gone(self, key: int, size_bytes: int) -> None:
        self.known.discard(key)
        self.live -= size_bytes


def peak_bytes(model: PeftModel, chunked: ChunkedLoss | None, batch: dict[str, torch.Tensor]) -> int:
    with LiveBytes() as counted:
        loss_and_gradients(model, chunked, **batch)
    return int(counted.peak)


@pytest.mark.parametrize("lora", [{}, {"modules_to_save": ["lm_head"]}])
def test_the_peak_is_a_tile_and_no_longer_grows_with_tokens_times_vocabulary(lora: dict[str, Any]) -> None:
    vocabulary, tile_tokens = 4096, 16
    config = LlamaConfig(vocab_size=vocabulary, hidden_size=16, intermediate_size=24, num_hidden_layers=1, **HEADS)
    model = fresh(config, **lora)
    chunked = ChunkedLoss(model, tile_bytes=4 * vocabulary * tile_tokens)
    short, long = rows(vocabulary, 64), rows(vocabulary, 256)
    assert peak_bytes(model, None, long) > 12 * 2 * 256 * vocabulary
    head_bytes = 3 * 4 * 16 * vocabulary  # where the head trains: its gradient of a tile, of all tiles, and as it stays
    assert peak_bytes(model, chunked, long) < 10 * tile_tokens * vocabulary + head_bytes + 3_000_000
    growth = peak_bytes(model, chunked, long) - peak_bytes(model, chunked, short)
    assert growth < 2 * 192 * vocabulary, "what grows is what the block keeps"


# ------------------------------------------------------------------------------------------ refusal


def test_a_model_that_adds_to_its_loss_is_refused() -> None:
    config = MixtralConfig(
        **SMALL, intermediate_size=24, num_hidden_layers=2, num_local_experts=2, output_router_logits=True, **HEADS
    )
    with pytest.raises(ModelError, match=r"MixtralForCausalLM.*loss_type: nll"):
        verified_chunked_loss(fresh(config))


def test_left_to_itself_it_is_then_the_loss_of_the_model_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    config = MixtralConfig(
        **SMALL, intermediate_size=24, num_hidden_layers=2, num_local_experts=2, output_router_logits=True, **HEADS
    )
    with caplog.at_level("INFO"):
        assert LossPath.verified(fresh(config), "auto", "fp32").chunked is None
        assert "all tokens" in caplog.text
        assert "MixtralForCausalLM" in caplog.text
        caplog.clear()
        assert LossPath.verified(fresh(FAMILIES["mixtral"]), "auto", "fp32").chunked
        assert "answers only" in caplog.text
        caplog.clear()
        assert LossPath.verified(fresh(FAMILIES["mixtral"]), "nll", "fp32").chunked is None
        assert caplog.text == ""


class AddsByPlace(LlamaForCausalLM):
    """Its logits depend on a token's place in the row."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        labels = kwargs.pop("labels", None)
        output = super().forward(*args, **kwargs)
        output.logits = output.logits + torch.arange(output.logits.shape[1])[:, None] * torch.arange(32) / 10
        if labels is not None:
            output.loss = self.loss_function(output.logits, labels, 32)
        return output


class NoBackbone(LlamaForCausalLM):
    """Holds its embedding beside the blocks."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.outer = torch.nn.Embedding(32, 16)

    def get_input_embeddings(self) -> Any:
        return self.outer


@pytest.mark.parametrize("kind", [AddsByPlace, NoBackbone])
def test_a_model_that_makes_its_logits_otherwise_is_refused(kind: type[PreTrainedModel]) -> None:
    torch.manual_seed(0)
    model = kind(LlamaConfig(**SMALL, intermediate_size=24, num_hidden_layers=1, **HEADS))
    with pytest.raises(ModelError, match=kind.__name__):
        verified_chunked_loss(model)


# ------------------------------------------------------------------------------------------ in a run


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> list[ChunkedLoss]:
    """Runs of this test work in tiles of five tokens; what they work with is in the list."""
    made: list[ChunkedLoss] = []

    def verified(model: Any) -> ChunkedLoss:
        made.append(verified_chunked_loss(model))
        made[0].tile_bytes = 5 * 4 * model.get_base_model().config.vocab_size
        return made[0]

    monkeypatch.setattr(step, "verified_chunked_loss", verified)
    return made


def test_a_run_with_it_trains_the_same_adapter(
    config: Make, workspace: Path, small_tiles: list[ChunkedLoss], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = config(
        target_batch_size=8, num_epochs=2, eval_strategy="epoch", val_size=0.25, target_modules=["q_proj", "lm_head"]
    )
    whole = run(workspace, values | {"loss_type": "nll"})
    assert small_tiles == []
    pieces = run(workspace, values)
    assert len(small_tiles) == 1
    for key in ("loss", "eval_loss"):
        wanted = [row[key] for row in points_of(whole) if key in row]
        assert wanted
        assert [row[key] for row in points_of(pieces) if key in row] == pytest.approx(wanted, rel=1e-4)
    saved = [load_file(folder.adapter / "adapter_model.safetensors") for folder in (whole, pieces)]
    for name, tensor in saved[0].items():
        assert torch.allclose(tensor, saved[1][name], atol=1e-3), name


def test_a_run_in_bf16_has_the_same_curve(config: Make, workspace: Path, small_tiles: list[ChunkedLoss]) -> None:
    folders = [run(workspace, config(loss_type=word, precision="bf16")) for word in ("nll", "chunked_nll")]
    own, pieces = ([row["loss"] for row in points_of(folder) if "loss" in row] for folder in folders)
    assert pieces == pytest.approx(own, rel=0.01)
    assert pieces[-1] < pieces[0]


def test_a_run_whose_loss_cannot_be_had_in_pieces_fails_with_a_sentence(
    config: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = own(self, *args, **kwargs)
        if output.loss is not None:
            output.loss = output.loss + 1
        return output

    own = LlamaForCausalLM.forward
    monkeypatch.setattr(LlamaForCausalLM, "forward", other)
    _, sentence = failed_run(workspace, config(loss_type="chunked_nll"), ModelError)
    assert "loss_type: nll" in sentence
    folder = run(workspace, config(max_steps=1))
    assert folder.state().state == "finished", "left to itself it takes the model's own"
    assert "all tokens" in folder.train_log.read_text()
