"""Exchange of gradients, buffers and rows among the processes of a run."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over processes, with one exchange per dtype; a single process does nothing."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    gradients: dict[torch.dtype, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            gradients.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for group in gradients.values():
        flat = torch.cat([gradient.flatten() for gradient in group])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for gradient, part in zip(group, flat.split([g.numel() for g in group]), strict=True):
            gradient.copy_(part.view_as(gradient))


def share_buffers(module: nn.Module) -> None:
    """Copy the buffers of rank 0, such as batch normalization statistics, to all other processes."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def all_gathered(rows: Tensor, device: torch.device) -> Tensor:
    """Concatenate the rows of all processes, in the order of their ranks, on the CPU.

    A single process returns its rows unchanged.

    Args:
        rows: rows of this process, ``(n, ...)``; n may differ among processes.
        device: device on which the processes exchange tensors.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    num = torch.tensor([len(rows)], device=device)
    sizes = [torch.zeros_like(num) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, num)
    most = int(torch.cat(sizes).max())
    padded = torch.zeros(most, *rows.shape[1:], dtype=rows.dtype, device=device)
    padded[: len(rows)] = rows.to(device)
    gathered = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(gathered, padded)
    return torch.cat([g[: int(size)] for g, size in zip(gathered, sizes, strict=True)]).cpu()
