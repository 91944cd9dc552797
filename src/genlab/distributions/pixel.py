"""Distributions of one discrete pixel value given a network's output.

Each is a plain object that a config composes into a model. ``params`` is ``(B, num_params, *S)`` for values ``x`` of
``(B, *S)``: the parameters come right after the batch, whatever follows (``C, H, W`` for images, ``L`` for sequences).
Values are grey levels ``k / (levels - 1)`` in [0, 1]. ``log_prob`` is in nats per value; every distribution sums to 1
over the ``levels`` values exactly. Sampling inverts the CDF at a uniform ``u``, so that a sample is a function of
``(params, u)``.
"""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.errors import InputError


class PixelDistribution(ABC):
    """The interface; see the module's docstring for the shapes.

    Args:
        levels: number of values a pixel takes.
    """

    num_params: int

    def __init__(self, levels: int) -> None:
        if levels < 2:
            raise InputError(f"levels={levels}: a pixel takes at least 2 values")
        self.levels = levels

    @abstractmethod
    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Log-probability in nats of each value, same shape as ``x``; float32 whatever the precision of ``params``."""

    @abstractmethod
    def sample(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        """The value at which the CDF passes ``u``, in [0, 1], same shape as ``u``."""

    @abstractmethod
    def mean(self, params: Tensor) -> Tensor:
        """Expected value in [0, 1], ``(B, *S)`` (of a mixture of discretized logistics: of the component means)."""

    def index(self, x: Tensor) -> Tensor:
        """Grey levels in [0, 1] as int64 indices."""
        return (x * (self.levels - 1)).round().long()


class Bernoulli(PixelDistribution):
    """A binary pixel; one logit per value. Not a likelihood of grey levels, and refused for them."""

    num_params = 1

    def __init__(self, levels: int = 2) -> None:
        if levels != 2:
            raise InputError(
                f"a Bernoulli likelihood is for binary data, and this data has {levels} grey levels: "
                "use distribution=categorical or distribution=logistic_mixture, or dataset=binarized_mnist"
            )
        super().__init__(levels)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        logits = params.squeeze(1).float()
        return -F.binary_cross_entropy_with_logits(logits, x.float(), reduction="none")

    def sample(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        return (u >= torch.sigmoid(-params.squeeze(1).float() / temperature)).float()

    def mean(self, params: Tensor) -> Tensor:
        return torch.sigmoid(params.squeeze(1).float())


class Categorical(PixelDistribution):
    """Any distribution over the levels: one logit each, as in Pixel Recurrent Neural Networks (arXiv:1601.06759)."""

    def __init__(self, levels: int) -> None:
        super().__init__(levels)
        self.num_params = levels

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        return -F.cross_entropy(params.float(), self.index(x), reduction="none")

    def sample(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        cdf = torch.softmax(params.float() / temperature, 1).cumsum(1)
        # The number of levels whose CDF lies at or below u; its end is made exactly 1, or u could pass it by rounding.
        index = (cdf / cdf[:, -1:] <= u.unsqueeze(1)).sum(1)
        return index.float() / (self.levels - 1)

    def mean(self, params: Tensor) -> Tensor:
        levels = torch.linspace(0, 1, self.levels, device=params.device)
        levels = levels.view(-1, *[1] * (params.ndim - 2))
        return (torch.softmax(params.float(), 1) * levels).sum(1)


class DiscretizedLogisticMixture(PixelDistribution):
    """A mixture of logistics integrated over each level's bin: PixelCNN++ (arXiv:1701.05517), equation 2.

    Values live on [-1, 1] with bins of width ``2 / (levels - 1)``; the edge bins reach to infinity. Here a value is
    conditioned on the channels before it by the network, not by the paper's linear coefficients.

    Args:
        num_components: of the mixture; 1 is the discretized logistic of a VAE's decoder.
    """

    def __init__(self, levels: int, num_components: int = 10) -> None:
        super().__init__(levels)
        if num_components < 1:
            raise InputError(f"num_components={num_components}: a mixture has at least 1 component")
        self.num_components = num_components
        self.num_params = 3 * num_components

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, means, log_scales = params.float().chunk(3, dim=1)
        return logits, means, log_scales.clamp(-7.0, 7.0)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        logits, means, log_scales = self._split(params)
        value = (x.float() * 2 - 1).unsqueeze(1)
        half_bin = 1 / (self.levels - 1)
        inverse_scale = torch.exp(-log_scales)
        upper = inverse_scale * (value - means + half_bin)
        lower = inverse_scale * (value - means - half_bin)
        # log(sigmoid(upper) - sigmoid(lower)) without cancellation in either tail:
        # sigmoid(a) - sigmoid(b) = sigmoid(a) * sigmoid(-b) * (1 - exp(b - a)).
        width = 2 * half_bin * inverse_scale
        inner = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-width))
        log_bin = torch.where(value < -1 + half_bin, F.logsigmoid(upper), inner)
        log_bin = torch.where(value > 1 - half_bin, F.logsigmoid(-lower), log_bin)
        return torch.logsumexp(torch.log_softmax(logits, 1) + log_bin, dim=1)

    def cdf(self, params: Tensor, temperature: float = 1.0) -> Tensor:
        """CDF at each level but the last, ``(B, levels - 1, *S)``."""
        logits, means, log_scales = self._split(params)
        edges = torch.arange(self.levels - 1, device=params.device) * 2 / (self.levels - 1) - 1 + 1 / (self.levels - 1)
        edges = edges.view(1, -1, 1, *[1] * (params.ndim - 2))
        scaled = (edges - means.unsqueeze(1)) * torch.exp(-log_scales).unsqueeze(1) / temperature
        weights = torch.softmax(logits / temperature, 1).unsqueeze(1)
        # Divided by the weights' sum as rounded, so that the end of the CDF is exactly 1.
        return (weights * torch.sigmoid(scaled)).sum(2) / weights.sum(2)

    def sample(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        index = (self.cdf(params, temperature) <= u.unsqueeze(1)).sum(1)
        return index.float() / (self.levels - 1)

    def mean(self, params: Tensor) -> Tensor:
        logits, means, _ = self._split(params)
        return ((torch.softmax(logits, 1) * means).sum(1).clamp(-1, 1) + 1) / 2


def natural(levels: int, num_components: int = 10) -> PixelDistribution:
    """Bernoulli for binary data; every level its own logit where they are few; a mixture of logistics for the rest."""
    if levels == 2:
        return Bernoulli(levels)
    if levels <= math.isqrt(256) + 1:
        return Categorical(levels)
    return DiscretizedLogisticMixture(levels, num_components)
