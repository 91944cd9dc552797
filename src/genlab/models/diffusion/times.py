"""Distributions of the times at which a model is trained."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from genlab.errors import InputError
from genlab.machine.devices import precise


class Times(ABC):
    """A distribution of times in [0, 1]."""

    @abstractmethod
    def from_uniform(self, u: Tensor) -> Tensor:
        """Map uniform numbers to times, ``(B,)`` each."""

    def draw(self, num: int, device: torch.device) -> Tensor:
        """Draw the times of a batch, ``(num,)``: stratified, one from each of ``num`` equal parts, in random order.

        Each time has the distribution of a single draw, and the mean over a batch varies less.
        """
        u = (torch.randperm(num, device=device) + torch.rand(num, device=device)) / num
        return self.from_uniform(u)


class Uniform(Times):
    """All times alike."""

    def from_uniform(self, u: Tensor) -> Tensor:
        return u


class LogitNormal(Times):
    """Times whose logits are normal: Scaling Rectified Flow Transformers (arXiv:2403.03206), section 3.1.

    Args:
        mean: mean of the logits; below 0 there are more times near the noise.
        std: standard deviation of the logits.

    Raises:
        InputError: if the standard deviation is not positive.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        if std <= 0:
            raise InputError(f"std={std}: expected above 0")
        self.mean, self.std = mean, std

    def from_uniform(self, u: Tensor) -> Tensor:
        normal = torch.special.ndtri(precise(u).clamp(1e-7, 1 - 1e-7)).to(u.dtype)
        return torch.sigmoid(self.mean + self.std * normal)
