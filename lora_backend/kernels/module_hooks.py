"""Whether a call of a module does more than its class says."""

from __future__ import annotations

from accelerate.hooks import AlignDevicesHook
from torch import nn
from torch.nn.modules.module import _has_any_global_hook


def is_any_hooked(*modules: nn.Module) -> bool:
    """Whether something watches or changes what goes through one of `modules`, or through all modules of the process."""
    return bool(_has_any_global_hook()) or any(_is_hooked(module) for module in modules)


def _is_hooked(module: nn.Module) -> bool:
    """What accelerate puts on every layer of a model that is split over devices moves the input there, and no more:
    whoever computes in the module's place needs the input where its weight is."""
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        return True
    own = vars(module)
    if "forward" not in own:
        return False
    hook, replaced = own.get("_hf_hook"), own.get("_old_forward")
    is_class_s = getattr(replaced, "__func__", None) is type(module).forward
    return not (is_class_s and type(hook) is AlignDevicesHook and not hook.offload)
