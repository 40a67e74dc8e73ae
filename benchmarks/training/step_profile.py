"""What a step's time is spent on, by torch's profiler: the time of each operation itself, in groups.

An operation inside of our attention over rows without padding counts as attention, and one inside of the optimizer as its.
The others are told apart by their names, so what is made of plain multiplications (a norm that torch has no function for)
counts as element-wise. What is no operation (Python, autograd's bookkeeping, the loop around the step) is what is left of
the clock. The profiler itself takes time at each operation, so many small ones look larger than they are.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

INSIDE = {"attention": r"^_FlatAttention", "optimizer, clipping": r"^Optimizer\."}
"""By what an operation was called from."""
GROUPS = {
    "matrix products": r"^aten::(mm|addmm_?|linear|matmul|_mkl_linear|mkldnn_\w+|addmv|mv)$|^mkldnn::|^mkl::",
    "attention": r"^aten::(_?scaled_dot_product\w*|bmm|baddbmm|_safe_softmax|_?softmax\w*|_flash_attention\w*)$",
    "norms": r"^aten::(_?fused_rms_norm\w*|rms_norm|native_layer_norm\w*|rsqrt|pow|mean)$",
    "loss": r"^aten::(_?log_softmax\w*|nll_loss\w*|cross_entropy\w*|gather|exp_|scatter_add_|logsumexp|masked_fill_)$",
    "optimizer, clipping": r"^aten::(_fused_adam\w*|_foreach_\w+|linalg_vector_norm|clamp\w*|lerp_|addcdiv_|addcmul_)$",
    "element-wise, copies and casts": r"^aten::",
}
REST = "Python and the rest"


def grouped_seconds(profiler: Any, wall_s: float) -> list[tuple[str, float]]:
    """(group, seconds), all groups together as long as the clock says."""
    found: dict[str, float] = defaultdict(float)
    for event in profiler.events():
        if event.name.startswith("aten::"):
            found[_group(event)] += event.self_cpu_time_total / 1e6
    found[REST] = wall_s - sum(found.values())
    return [(name, found[name]) for name in (*GROUPS, REST)]


def _group(event: Any) -> str:
    above = event.cpu_parent
    while above is not None:
        for name, pattern in INSIDE.items():
            if re.search(pattern, above.name):
                return name
        above = above.cpu_parent
    return next(name for name, pattern in GROUPS.items() if re.search(pattern, event.name))
