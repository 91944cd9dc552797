"""The fully visible sigmoid belief network: each value is a logistic regression on the values before it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.drawing import Draws
from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError
from genlab.layers.raster import to_image, to_sequence
from genlab.models.adversarial import given
from genlab.models.base import AutoregressiveModel


class FVSBN(AutoregressiveModel):
    """A fully visible sigmoid belief network: Connectionist learning of belief networks (Neal, 1992).

    ``p(x) = prod_i p(x_i | x_<i)`` over the values in raster order, the channels of a pixel one after the other; one
    strictly triangular linear layer maps the values to the parameters of each value's distribution. There are no hidden
    units. It is the baseline of NADE (arXiv:1605.02226). A class adds a learned bias to the parameters.

    Args:
        shape: image shape ``(C, H, W)``; the layer has ``num_params * (C H W)^2`` weights.
        distribution: distribution of one value given the values before it.
        num_classes: number of classes; None for an unconditional model.

    Raises:
        InputError: if the shape is not an image's.
    """

    def __init__(self, shape: tuple[int, ...], distribution: PixelDistribution, num_classes: int | None = None) -> None:
        super().__init__(shape, num_classes)
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: FVSBN models images (C, H, W)")
        D, P = self.num_dims, distribution.num_params
        self.distribution = distribution
        # Weights can start at zero, as the likelihood of binary values is concave in them. Biases start at random,
        # because equal components of a mixture would stay equal.
        self.weight = nn.Parameter(torch.zeros(P, D, D))  # [p, i, j]: from value j to parameter p of value i
        self.bias = nn.Parameter(0.1 * torch.randn(P, D))
        if num_classes is not None:
            self.class_bias = nn.Embedding(num_classes, P * D)
            nn.init.zeros_(self.class_bias.weight)

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Set the biases to each value's marginal distribution in ``x``."""
        with torch.no_grad():
            self.bias.copy_(self.distribution.fit(to_sequence(x)))

    def _bias(self, y: Tensor | None) -> Tensor:
        """Return the biases, ``(P, D)``, or ``(B, P, D)`` if the model is conditional."""
        if self.num_classes is None:
            return self.bias
        return self.bias + self.class_bias(given(y)).unflatten(1, self.bias.shape)

    def _params(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Map values in raster order ``(B, D)`` to the parameters of each, ``(B, P, D)``."""
        # The one layer outputs logits, which need float32 under autocast too.
        with torch.autocast(x.device.type, enabled=False):
            before = self.weight.tril(-1)  # value i sees those before it
            return F.linear(x.to(before.dtype), before.flatten(0, 1)).unflatten(1, self.bias.shape) + self._bias(y)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map images in [0, 1] to each value's parameters given the values before, ``(B, num_params, C, H, W)``."""
        return to_image(self._params(to_sequence(x), y), self.shape)

    def log_prob_map(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        values = to_sequence(x)
        return to_image(self.distribution.log_prob(self._params(values, y), values), self.shape)

    def _generate(self, draws: Draws, y: Tensor | None) -> Tensor:
        """Draw value by value; all the steps together cost as much as one forward pass."""
        draws = draws.map(to_sequence)
        bias = self._bias(y).expand(len(draws.u), -1, -1)
        x = torch.empty_like(draws.u)  # (N, D)
        for i in range(self.num_dims):
            params = x[:, :i].to(self.weight.dtype) @ self.weight[:, i, :i].T + bias[:, :, i]  # (N, P)
            x[:, i] = draws(params, i)
        return to_image(x, self.shape)
