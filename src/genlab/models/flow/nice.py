"""NICE: additive couplings of fully connected networks, a scale for each dimension, and a logistic prior."""

import math
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.logistic import log_sigmoid
from genlab.errors import InputError
from genlab.models.flow.image_flow import ImageFlow


class AdditiveNet(nn.Module):
    """The fully connected network of an additive coupling, ``(B, inputs)`` to ``(B, outputs)``.

    It computes what the coupling adds to half of the dimensions from the other half. Its output is 0 at initialization.
    A class is appended to the inputs as a one-hot vector.
    """

    def __init__(self, inputs: int, outputs: int, width: int, num_hidden: int, num_classes: int | None) -> None:
        super().__init__()
        self.num_classes = num_classes
        sizes = [inputs + (num_classes or 0), *[width] * num_hidden]
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        self.last = nn.Linear(sizes[-1], outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, h: Tensor, y: Tensor | None) -> Tensor:
        if self.num_classes is not None:
            assert y is not None
            h = torch.cat([h, F.one_hot(y, self.num_classes).to(h.dtype)], 1)
        h = h.to(self.last.weight.dtype)
        for layer in self.hidden:
            h = F.relu(layer(h))
        return self.last(h)


class NICE(ImageFlow):
    """NICE: Non-linear Independent Components Estimation (arXiv:1410.8516).

    Dequantized images in [0, 1] are flattened, without a logit. Couplings add a function of the odd dimensions to the
    even ones, and a function of the even dimensions to the odd ones, in turn; then each dimension is scaled. ``z`` has
    a logistic prior, and its even dimensions come before the odd ones. The latents of ``encode`` and ``decode`` are
    standard normal: each has the same cumulative probability as its value in ``z``.

    Args:
        shape: image shape ``(C, H, W)``.
        num_classes: number of classes, which the coupling networks see; None for an unconditional model.
        levels: number of grey levels of the data.
        dequantization: module that draws the dequantization noise, see ``ImageFlow``; None for uniform noise.
        num_couplings: number of couplings in sequence.
        width: width of the hidden layers of each coupling network.
        num_hidden: number of hidden layers of each coupling network.

    Raises:
        InputError: if the shape is not an image's or is a single value, or an option is out of its range.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int | None = None,
        levels: int = 256,
        dequantization: nn.Module | None = None,
        num_couplings: int = 4,
        width: int = 1000,
        num_hidden: int = 5,
    ) -> None:
        super().__init__(shape, num_classes, levels, None, dequantization)
        if min(num_couplings, width, num_hidden) < 1:
            raise InputError(
                f"num_couplings={num_couplings}, width={width}, num_hidden={num_hidden}: expected at least 1 of each"
            )
        D = self.num_dims
        self.sizes = [D - D // 2, D // 2]  # even and odd dimensions, counted from 0
        self.nets = nn.ModuleList()
        for i in range(num_couplings):
            given, changed = self.sizes if i % 2 else reversed(self.sizes)
            self.nets.append(AdditiveNet(given, changed, width, num_hidden, num_classes))
        self.log_scale = nn.Parameter(torch.zeros(D))

    def transform(self, h: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self._check(y)
        h = h.flatten(1)
        halves = [h[:, 0::2], h[:, 1::2]]
        for i, net in enumerate(self.nets):
            changed, given = halves[i % 2], halves[1 - i % 2]
            halves[i % 2] = changed + net(given, y).to(h.dtype)
        return torch.cat(halves, 1) * self.log_scale.exp(), self.log_scale.sum().expand(len(h))

    def inverse(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        self._check(y)
        z = z * torch.exp(-self.log_scale)
        halves = list(z.split(self.sizes, 1))
        for i, net in reversed(list(enumerate(cast(list[AdditiveNet], list(self.nets))))):
            changed, given = halves[i % 2], halves[1 - i % 2]
            halves[i % 2] = changed - net(given, y).to(z.dtype)
        h = torch.empty_like(z)
        h[:, 0::2], h[:, 1::2] = halves
        return h.unflatten(1, self.shape)

    def log_prior(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the log-density of ``z`` under independent standard logistic distributions, in nats, ``(B,)``."""
        return (log_sigmoid(z) + log_sigmoid(-z)).sum(1)

    def from_noise(self, noise: Tensor, y: Tensor | None = None) -> Tensor:
        """Map normal noise of cumulative probability ``p`` to the logistic quantile, ``logit p``.

        It is computed from log-probabilities, which are precise in both tails.
        """
        return torch.special.log_ndtr(noise) - torch.special.log_ndtr(-noise)

    def to_noise(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        # The lower tail is used on both sides, as a probability near 1 would be rounded to 1. It is clamped above 0,
        # whose quantile is infinite.
        p = torch.sigmoid(-z.abs()).clamp_min(torch.finfo(z.dtype).tiny)
        return -torch.special.ndtri(p) * z.sign()

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Set biases and scales so that each dimension of ``z`` has zero mean and the variance of the logistic prior.

        Learning the scales from 1 would take thousands of steps.
        """
        h = self._to_reals(self._draw(x)[0])[0].flatten(1)
        std, mean = torch.std_mean(torch.cat([h[:, 0::2], h[:, 1::2]], 1), 0, correction=0)
        self.log_scale.copy_(math.log(math.pi / math.sqrt(3)) - std.clamp_min(1e-3).log())
        for net, half in zip(cast(list[AdditiveNet], list(self.nets)), mean.split(self.sizes), strict=False):
            net.last.bias.copy_(-half)
