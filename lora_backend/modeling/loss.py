"""The loss without the logits of all tokens: a tile of them at a time, its gradient taken on the spot.

The ordinary path holds 12 bytes for each token and each word of the vocabulary, often more than all activations.
Here a tile of logits is made, turned into loss and gradient, and let go. Kept for the backward pass is the gradient
of the hidden states, and of what trains in the head; so the head computes once forward and once backward, as ever.

What lies between hidden states and logits (head, adapter on it, scaling, capping) is the model's own code: its
forward runs with hidden states put in the place of the backbone. No family is known here by name; whether the
result is the model's own loss is tried before training, and refused where it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.modeling_outputs import CausalLMOutput
from transformers.utils import ModelOutput

from lora_backend.errors import ModelError
from lora_backend.i18n import N_

IGNORED = -100
"""Label of a token that is not learned: transformers' and torch's own."""
TILE_BYTES = 256 * 2**20
"""One tile of logits in fp32. While it is worked on, up to 10 bytes a logit are held where it is in 16 bits, else 8."""

Tail = Callable[[torch.Tensor], torch.Tensor]
"""Hidden states (1 × tokens × hidden size) → logits (1 × tokens × vocabulary)."""
OnLogits = Callable[[torch.Tensor, torch.Tensor], None]
"""Given logits (tokens × vocabulary) and what each of these tokens predicts, `IGNORED` where that does not count."""


class ChunkedLoss:
    """The chunked loss of one causal model, on whatever devices its modules are.

    Tokens without a label do not go through the head. `labelled`: the share of tokens that have one, for a trace of
    shapes, where labels have no values. `tile_bytes`: see `TILE_BYTES`. `smoothing`: see `smoothed_loss`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        labelled: float | None = None,
        tile_bytes: int = TILE_BYTES,
        smoothing: float = 0.0,
    ) -> None:
        self.causal = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
        self.labelled = labelled
        self.tile_bytes = tile_bytes
        self.smoothing = smoothing
        self._on_logits: OnLogits | None = None
        embedding = self.causal.get_input_embeddings()
        # Most models call the outermost of these, some one inside it: what is called first is the backbone.
        self.backbones = [
            module
            for module in self.causal.modules()
            if module not in (self.causal, embedding) and any(part is embedding for part in module.modules())
        ]
        if not self.backbones:
            raise refusal(self.causal)
        self._own_forward: Callable[..., Any] = self.causal.forward
        self._output_class: Callable[..., ModelOutput] = ModelOutput

    @contextmanager
    def active(self, on_logits: OnLogits | None = None) -> Iterator[None]:
        """Within the block a call of the model with labels returns this loss, and no logits; `on_logits` sees each tile."""
        self._on_logits = on_logits
        with _replaced(self.causal, "forward", self._forward):
            yield

    def _forward(
        self, *args: Any, labels: torch.Tensor | None = None, num_items_in_batch: Any = None, **kwargs: Any
    ) -> Any:
        if labels is None:
            return self._own_forward(*args, **kwargs)
        hidden, vocabulary = self.hidden_states(*args, **kwargs)
        # As transformers has it: token n predicts n + 1, the last one nothing.
        targets = nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED).reshape(-1).to(hidden.device)
        hidden = hidden.reshape(-1, hidden.shape[-1])
        if self.labelled != 1.0:
            chosen = targets != IGNORED if self.labelled is None else self._as_many(targets)
            hidden, targets = hidden[chosen], targets[chosen]
        trained = self._trained_in_tail() if torch.is_grad_enabled() else []
        tile_tokens = max(self.tile_bytes // (4 * vocabulary), 1)
        total = _SummedLoss.apply(hidden, targets, self.tail, tile_tokens, self.smoothing, self._on_logits, *trained)
        count = (targets != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        return CausalLMOutput(loss=total / (count.to(total.device) if isinstance(count, torch.Tensor) else count))

    def _as_many(self, targets: torch.Tensor) -> torch.Tensor:
        """Indices of as many tokens as have a label; which ones is the same for shapes."""
        count = max(round((self.labelled or 0.0) * len(targets)), 1)
        return torch.zeros(1, dtype=torch.long, device=targets.device).expand(count)

    def _trained_in_tail(self) -> list[nn.Parameter]:
        """What trains outside of the backbone, or in a head that is tied to it."""
        head = self.causal.get_output_embeddings()
        in_head = {id(parameter) for parameter in head.parameters()} if head is not None else set()
        only_backbone = {id(parameter) for parameter in self.backbones[0].parameters()} - in_head
        return [p for p in self.causal.parameters() if p.requires_grad and id(p) not in only_backbone]

    def hidden_states(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, int]:
        """The backbone's last hidden states, it being called as the model calls it, and the size of the vocabulary."""
        found: list[torch.Tensor] = []
        inside = False

        def one_token(run: Callable[..., Any]) -> Callable[..., Any]:
            def forward(*args: Any, **kwargs: Any) -> Any:
                nonlocal inside
                if inside:
                    return run(*args, **kwargs)
                inside = True
                output = run(*args, **kwargs)
                inside = False
                if not isinstance(output, ModelOutput) or "last_hidden_state" not in output:
                    raise refusal(self.causal)
                found.append(output["last_hidden_state"])
                self._output_class = type(output)
                return self._output_class(last_hidden_state=found[-1][:1, :1])

            return forward

        with ExitStack() as replacements:
            for module in self.backbones:
                replacements.enter_context(_replaced(module, "forward", one_token(module.forward)))
            logits = self._own_forward(*args, **{**kwargs, "use_cache": False})["logits"]
        if len(found) != 1 or found[0].dim() != 3:
            raise refusal(self.causal)
        return found[0], logits.shape[-1]

    def logits_in_pieces(self, model: nn.Module, ids: torch.Tensor, piece_tokens: int) -> torch.Tensor:
        """Logits of all tokens (1 × tokens × vocabulary), so many at a time, across rows as well. Within a call of `model`,
        whose weights may be here no longer than that."""

        def forward(*args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
            hidden, _ = self.hidden_states(*args, **kwargs)
            pieces = hidden.reshape(1, -1, hidden.shape[-1]).split(piece_tokens, dim=1)
            return {"logits": torch.cat([self.tail(piece) for piece in pieces], dim=1)}

        with _replaced(self.causal, "forward", forward):
            logits: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids))["logits"]
        return logits

    def tail(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of hidden states, by the model's own code after its backbone. Needs `hidden_states` before it."""
        ids = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
        output = self._output_class(last_hidden_state=hidden)
        with ExitStack() as replacements:
            for module in self.backbones:
                replacements.enter_context(_replaced(module, "forward", lambda *_, **__: output))
            return self._own_forward(input_ids=ids, use_cache=False)["logits"]


class _SummedLoss(torch.autograd.Function):
    """Negative log-likelihood of all labelled tokens, smoothed where asked for, summed in fp32; not yet divided, so that fp16 gradients hold."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        tail: Tail,
        tile_tokens: int,
        smoothing: float,
        on_logits: OnLogits | None,
        *trained: torch.Tensor,
    ) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        wanted = ctx.needs_input_grad[0] or bool(trained)
        hidden_gradient = torch.zeros_like(hidden) if ctx.needs_input_grad[0] else None
        gradients: list[torch.Tensor | None] = [None] * len(trained)
        for start in range(0, len(hidden), tile_tokens):
            tile = slice(start, start + tile_tokens)
            piece = hidden[tile].detach().requires_grad_(ctx.needs_input_grad[0])
            with torch.set_grad_enabled(wanted):
                logits = tail(piece[None]).squeeze(0)  # an index would make its gradient twice
            aims = targets[tile].to(logits.device)
            if on_logits is not None:
                on_logits(logits.detach(), aims)
            loss, logits_gradient = _loss_and_gradient(logits.detach(), aims, smoothing, wanted)
            total = total.to(loss.device) + loss
            if logits_gradient is None:
                continue
            sources = [*trained, piece] if hidden_gradient is not None else [*trained]
            with torch.autocast(logits.device.type, enabled=False):  # as in any backward pass
                found = torch.autograd.grad(logits, sources, logits_gradient, allow_unused=True)
            del logits, logits_gradient
            if hidden_gradient is not None:
                hidden_gradient[tile] = found[-1]
            for index, gradient in enumerate(found[: len(trained)]):
                known = gradients[index]
                if gradient is not None:  # summed in fp32, for a head in bf16 would lose what many tiles add
                    gradients[index] = gradient.float() if known is None else known.add_(gradient)
        ctx.gradients = [hidden_gradient, *gradients]
        ctx.dtypes = [hidden.dtype, *(parameter.dtype for parameter in trained)]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, total_gradient: torch.Tensor) -> Any:
        gradients, ctx.gradients = ctx.gradients, None
        scaled = [
            part if part is None else part.mul_(total_gradient.to(part.device)).to(dtype)
            for part, dtype in zip(gradients, ctx.dtypes, strict=True)
        ]
        return scaled[0], None, None, None, None, None, *scaled[1:]


def _loss_and_gradient(
    logits: torch.Tensor, targets: torch.Tensor, smoothing: float, wanted: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Summed loss of one tile, and its gradient in the logits' own precision.

    With ε = `smoothing` and V words a token's loss is (1 − ε)·(−log p(target)) + ε/V · Σ (−log p), as transformers'
    `LabelSmoother` has it (Szegedy et al. 2016, section 7); its gradient is p − (1 − ε)·[target] − ε/V.
    """
    labelled = (targets != IGNORED)[:, None]
    places = targets.clamp(min=0)[:, None]
    log_probabilities = torch.log_softmax(logits.float(), dim=-1)
    of_tokens = log_probabilities.gather(1, places)
    if smoothing:
        of_tokens = (1 - smoothing) * of_tokens + smoothing * log_probabilities.mean(dim=-1, keepdim=True)
    loss = -torch.where(labelled, of_tokens, 0).sum()
    if not wanted:
        return loss, None
    gradient = log_probabilities.exp_()
    gradient.scatter_add_(1, places, gradient.new_full(places.shape, smoothing - 1))
    if smoothing:
        gradient.sub_(smoothing / gradient.shape[-1])
    return loss, gradient.masked_fill_(~labelled, 0).to(logits.dtype)


@contextmanager
def _replaced(module: nn.Module, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """`module.<name>` is `function` within the block, and what it was after it."""
    was_own, before = name in vars(module), getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        if was_own:
            setattr(module, name, before)
        else:
            delattr(module, name)


def refusal(causal: nn.Module) -> ModelError:
    """What is said where the pieces would not add up to the model's own loss."""
    return ModelError(
        N_(
            "`loss_type: chunked_nll` does not give the loss that {model} computes itself, so it would train something else. Set `loss_type: nll`."
        ),
        model=type(causal).__name__,
    )
