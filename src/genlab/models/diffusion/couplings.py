"""Couplings: which noise belongs to which example of a batch."""

from abc import ABC, abstractmethod

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from genlab.errors import InputError


class Coupling(ABC):
    """A rule that orders the noise of a batch. Examples stay in their places, and with them their classes."""

    @abstractmethod
    def order(self, x: Tensor, noise: Tensor) -> Tensor:
        """Choose the noise of each example, as indices ``(B,)`` into the noise; both are ``(B, *S)``."""


class Independent(Coupling):
    """Noise that does not depend on the example."""

    def order(self, x: Tensor, noise: Tensor) -> Tensor:
        return torch.arange(len(x), device=x.device)


class OptimalTransport(Coupling):
    """The order with the least sum of squared distances between examples and their noise.

    Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport (arXiv:2302.00482). Paths
    cross less, and fewer steps of a solver suffice.

    Args:
        group: number of examples that are ordered among themselves; the time grows with its cube. None for all of a
            batch.
        batch_size: number of examples in a batch of training, which ``group`` must not exceed; None if not known.

    Raises:
        InputError: if ``group`` is below 2 or above the batch size.
    """

    def __init__(self, group: int | None = None, batch_size: int | None = None) -> None:
        if group is not None and group < 2:
            raise InputError(f"group={group}: expected at least 2, or null for a whole batch")
        if group is not None and batch_size is not None and group > batch_size:
            raise InputError(f"group={group}: more than a batch holds; dataset.batch_size is {batch_size}")
        self.group = group

    def order(self, x: Tensor, noise: Tensor) -> Tensor:
        cost = torch.cdist(x.flatten(1).float(), noise.flatten(1).float()).square().cpu()
        size, orders = self.group or len(x), []
        for first in range(0, len(x), size):
            part = slice(first, first + size)
            _, columns = linear_sum_assignment(cost[part, part].numpy())
            orders.append(first + torch.as_tensor(columns))
        return torch.cat(orders).to(x.device)
