"""Distributions of one discrete pixel value given a network's output.

Each is a plain object that a config composes into a model. ``params`` is ``(B, num_params, *S)`` for values ``x`` of
``(B, *S)``: the parameters come right after the batch, whatever follows (``C, H, W`` for images, ``L`` for sequences).
Values are grey levels ``k / (levels - 1)`` in [0, 1]. ``log_prob`` is in nats per value; every distribution sums to 1
over the ``levels`` values exactly. Sampling inverts the CDF at a uniform ``u``, so that a sample is a function of
``(params, u)``.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.distributions.dequantization import quantize
from genlab.distributions.logistic import log_one_minus_exp, log_sigmoid
from genlab.errors import InputError

# Up to so many grey levels each has a logit of its own: the 17 of scikit-learn's digits, whose levels run from 0 to 16.
# Logits of more cost memory and compute for each pixel, and do not know that neighbouring levels are alike.
FEW_LEVELS = 17


class PixelDistribution(ABC):
    """The interface; see the module's docstring for the shapes.

    Args:
        levels: number of values a pixel takes.
    """

    num_params: int
    # Of parameters that say where a value lies, bfloat16 would be too coarse a grid.
    needs_float32: ClassVar[bool] = True

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

    @abstractmethod
    def fit(self, x: Tensor) -> Tensor:
        """Parameters that every position begins with: of its own values in ``x``, ``(N, *S)`` to ``(num_params, *S)``.

        They come near the distribution of those values, and keep every level possible.
        """

    def index(self, x: Tensor) -> Tensor:
        """Grey levels in [0, 1] as int64 indices."""
        return (x * (self.levels - 1)).round().long()


class Bernoulli(PixelDistribution):
    """A binary pixel; one logit per value. Not a likelihood of grey levels, and refused for them."""

    num_params = 1
    needs_float32 = False

    def __init__(self, levels: int = 2) -> None:
        if levels != 2:
            raise InputError(
                f"a Bernoulli likelihood is for binary data, and this data has {levels} grey levels: "
                "use distribution=categorical or distribution=logistic_mixture, or dataset=binarized_mnist"
            )
        super().__init__(levels)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        return log_sigmoid((2 * x.float() - 1) * params.squeeze(1).float())

    def sample(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        return (u >= torch.sigmoid(-params.squeeze(1).float() / temperature)).float()

    def mean(self, params: Tensor) -> Tensor:
        return torch.sigmoid(params.squeeze(1).float())

    def fit(self, x: Tensor) -> Tensor:
        return torch.logit(x.float().mean(0, keepdim=True), eps=0.001)


class Categorical(PixelDistribution):
    """Any distribution over the levels: one logit each, as in Pixel Recurrent Neural Networks (arXiv:1601.06759)."""

    needs_float32 = False

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

    def fit(self, x: Tensor) -> Tensor:
        counts = torch.stack([(self.index(x) == k).sum(0) for k in range(self.levels)])
        return torch.log((counts + 0.1) / (len(x) + 0.1 * self.levels))


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
        log_below, log_above = log_sigmoid(upper), log_sigmoid(-lower)
        log_bin = log_below + log_above + log_one_minus_exp(width)
        log_bin = torch.where(value < -1 + half_bin, log_below, log_bin)
        log_bin = torch.where(value > 1 - half_bin, log_above, log_bin)
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

    def fit(self, x: Tensor) -> Tensor:
        """Components side by side over [-1, 1], as heavy as their part of it holds values."""
        K = self.num_components
        means = (torch.arange(K, device=x.device) + 0.5) * 2 / K - 1
        part = (x.float() * K).long().clamp(max=K - 1)
        counts = torch.stack([(part == k).sum(0) for k in range(K)])
        logits = torch.log((counts + 0.1) / (len(x) + 0.1 * K))
        if K == 1:
            value = 2 * x.float() - 1
            scale = value.std(0) * math.sqrt(3) / math.pi  # of a logistic with that variance
            return torch.stack([logits[0], value.mean(0), scale.clamp_min(0.01).log()])
        rest = [1] * (x.ndim - 1)
        return torch.cat([logits, means.view(-1, *rest).expand_as(logits), torch.full_like(logits, math.log(1 / K))])


class DequantizedGaussian(PixelDistribution):
    """A normal density of the value spread over its bin by uniform noise: a bound on the probability of the level.

    ``log_prob`` is one draw of it, log N((k + u) / levels) - log levels with u ~ U[0, 1), on average below the
    logarithm of the bin's integral (A note on the evaluation of generative models, arXiv:1511.01844, section 3.1).
    Mass beyond [0, 1] is lost, and goes to the outermost levels in sampling.
    """

    num_params = 2

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = params.float().unbind(1)
        return mean, log_std.clamp(-7.0, 7.0)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        mean, log_std = self._split(params)
        point = (self.index(x) + torch.rand(x.shape, device=x.device)) / self.levels
        density = -0.5 * ((point - mean) / log_std.exp()).square() - log_std - 0.5 * math.log(2 * math.pi)
        return density - math.log(self.levels)

    def sample(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        mean, log_std = self._split(params)
        quantile = torch.special.ndtri(u.clamp(1e-7, 1 - 1e-7))
        return quantize(mean + temperature * log_std.exp() * quantile, self.levels)

    def mean(self, params: Tensor) -> Tensor:
        return self._split(params)[0].clamp(0, 1)

    def fit(self, x: Tensor) -> Tensor:
        point = (self.index(x) + 0.5) / self.levels
        return torch.stack([point.mean(0), point.std(0).clamp_min(0.01).log()])


def natural(levels: int, num_components: int = 10) -> PixelDistribution:
    """Bernoulli for binary data; every level its own logit where they are few; a mixture of logistics for the rest."""
    if levels == 2:
        return Bernoulli(levels)
    if levels <= FEW_LEVELS:
        return Categorical(levels)
    return DiscretizedLogisticMixture(levels, num_components)
