"""A trace for a plan imports no kernels of 4 and 8 bits, and leaves the process as it found it."""

from __future__ import annotations

import json

from tests.planning.profiles import LLAMA
from tests.python import call

TRACED = """
import json, sys
from lora_backend.config.schema import TrainingConfig
from lora_backend.installation import this_installation
from lora_backend.modeling.lean import lean_profile

facts = json.loads({facts!r})
configs = [TrainingConfig(model_name="m", precision="bf16", quantization=quantization) for quantization in (None, "nf4")]
profiles = [lean_profile(facts, config, this_installation()) for config in configs]
left_out = "bitsandbytes" not in sys.modules
from peft.import_utils import is_bnb_4bit_available
from transformers.utils import is_bitsandbytes_available
import bitsandbytes.nn
from lora_backend.modeling.profiling import profile_for

is_there = is_bnb_4bit_available() and is_bitsandbytes_available()
is_same = [profile_for(facts, config).to_json() == profile.to_json() for config, profile in zip(configs, profiles)]
print(json.dumps([[profile.method for profile in profiles], left_out, is_there, is_same]))
"""


def test_a_trace_imports_no_quantizing_kernels_and_hides_them_from_nobody() -> None:
    """Without quantization and with: one process asks both."""
    done = call("-c", TRACED.format(facts=json.dumps(LLAMA)))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["traced", "traced"], True, True, [True, True]]
