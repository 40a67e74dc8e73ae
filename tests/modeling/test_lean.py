"""A trace for a plan imports no kernels of 4 and 8 bits, and leaves the process as it found it."""

from __future__ import annotations

import json

import pytest

from tests.planning.profiles import LLAMA
from tests.python import call

TRACED = """
import json, sys
from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.lean import lean_profile

facts = json.loads({facts!r})
profile = lean_profile(facts, TrainingConfig(model_name="m", precision="bf16", quantization={quantization!r}))
left_out = "bitsandbytes" not in sys.modules
from peft.import_utils import is_bnb_4bit_available
from transformers.utils import is_bitsandbytes_available
import bitsandbytes.nn
from lora_backend.modeling.profiling import profile_for

again = profile_for(facts, TrainingConfig(model_name="m", precision="bf16", quantization={quantization!r}))
print(json.dumps([profile.method, left_out, is_bnb_4bit_available() and is_bitsandbytes_available(), again.to_json() == profile.to_json()]))
"""


@pytest.mark.parametrize("quantization", [None, "nf4"])
def test_a_trace_imports_no_quantizing_kernels_and_hides_them_from_nobody(quantization: str | None) -> None:
    done = call("-c", TRACED.format(facts=json.dumps(LLAMA), quantization=quantization))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["traced", True, True, True]
