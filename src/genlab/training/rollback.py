"""Going back to a checkpoint with smaller steps after a loss, or a weight, that is not finite."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.optim import Optimizer


def scale_steps(optimizer: Optimizer, scale: Callable[[], float]) -> None:
    """Let an optimizer take steps with its learning rates times a factor; the rates themselves stay as they are.

    Schedules and checkpoints thus contain the rates of the config, whatever the schedule computes from them.

    Args:
        optimizer: optimizer to change.
        scale: function that gives the factor of the next step.
    """
    kept: list[Any] = []

    def before(_: Optimizer, args: Any, kwargs: Any) -> None:
        if (factor := scale()) != 1:
            kept[:] = [group["lr"] for group in optimizer.param_groups]
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * factor

    def after(_: Optimizer, args: Any, kwargs: Any) -> None:
        for group, rate in zip(optimizer.param_groups, kept, strict=False):
            group["lr"] = rate
        kept.clear()

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)


def in_any_process(flag: bool, device: torch.device) -> bool:
    """Tell whether a flag is set in any process of the run; all of them have to ask at the same step.

    Args:
        flag: flag of this process.
        device: device on which the processes exchange tensors.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return flag
    flags = torch.tensor(int(flag), device=device)
    dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    return bool(flags)
