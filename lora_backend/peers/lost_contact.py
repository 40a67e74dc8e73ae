"""Which errors of a process say no more than that another one is gone."""

from __future__ import annotations

import re

import torch.distributed as dist

_IN_WORDS = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|socket (is )?closed|pair closure|remote process exited"
    r"|closed by (the )?peer|failed to (connect|recv)|timed out waiting|\[.*gloo.*\]",
    re.IGNORECASE,
)
"""What gloo, NCCL and the store call it; of gloo all errors are of the connection."""


def is_lost_contact(error: BaseException) -> bool:
    """Whether an error, or one that it came of, is a broken connection to the other processes."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, dist.DistNetworkError | dist.DistBackendError | dist.DistStoreError):
            return True
        if type(seen) is RuntimeError and _IN_WORDS.search(str(seen)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
