"""Load an adapter as anybody would, with transformers and peft alone: a program of its own, started by its path."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading


def main() -> None:
    """Read a question from stdin, as JSON on one line: `base`, `adapter`, `ids`. Print what the loaded model says of `ids`."""
    question = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_asker, daemon=True).start()
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(question["base"], dtype="auto")
    model = PeftModel.from_pretrained(base, question["adapter"]).eval()
    ids = torch.tensor([question["ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits.float()
        with model.disable_adapter():
            plain = model(input_ids=ids).logits.float()
    answer = {
        "is_finite": bool(logits.isfinite().all()),
        "largest_change": float((logits - plain).abs().max()),
        "logits_sha256": hashlib.sha256(logits.numpy().tobytes()).hexdigest(),
        "num_layers": sum(
            bool(len(part.lora_A) or len(part.lora_embedding_A)) for part in model.modules() if hasattr(part, "lora_A")
        ),
    }
    print(json.dumps(answer), flush=True)


def _end_with_the_asker() -> None:
    """Nobody writes a second line; the input ends when whoever asked is gone."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
