"""Tensors that are divided among the processes of a run: put them together, and divide them again."""

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map


def whole(value: Any) -> Any:
    """Put the divided tensors in a value together, on every process; all processes have to call this at once.

    Args:
        value: tensor, or lists and dicts of tensors and of other things, which stay as they are.
    """
    return tree_map(lambda one: one.full_tensor() if hasattr(one, "full_tensor") else one, value)


def is_divided(tensor: Tensor) -> bool:
    """Tell whether each process has a part of a tensor only."""
    return hasattr(tensor, "full_tensor")


def divided_like(parameter: Tensor, value: Any) -> Any:
    """Divide a tensor, which is the same on all processes, as a parameter of its shape is divided.

    Args:
        parameter: parameter, divided or not.
        value: tensor; anything that is none of the parameter's shape stays as it is.
    """
    if not is_divided(parameter) or not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    value = value.to(parameter.device)
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
