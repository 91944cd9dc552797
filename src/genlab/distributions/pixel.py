"""Distributions of one discrete pixel value given a network's output.

Each is an object that a config passes to a model; one with weights of its own is a module too. ``params`` is
``(B, num_params, *S)`` for values ``x`` of shape ``(B, *S)``: the parameters are the dimension after the batch,
whatever follows (``C, H, W`` for images, ``L`` for sequences). Values are grey levels ``k / (levels - 1)`` in [0, 1].
``log_prob`` is in nats per value. The probabilities of the ``levels`` values sum to 1 exactly, unless ``likelihood``
says that ``log_prob`` is a bound. Sampling inverts the CDF at a uniform number ``u``, so that a sample is a function of
``(params, u)``.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from genlab.distributions.dequantization import quantize
from genlab.distributions.logistic import log_one_minus_exp, log_sigmoid
from genlab.distributions.normal import log_below, log_interval
from genlab.errors import InputError

# Up to this number of grey levels, each level has its own logit: scikit-learn's digits have 17 levels, from 0 to 16.
# More logits would cost memory and compute for each pixel, and ignore that neighbouring levels are similar.
FEW_LEVELS = 17

# Whether a log-likelihood is exact, one draw of a lower bound on it (ELBO, dequantization), or one draw whose mean is
# the log-likelihood (a trace by random probes).
Likelihood = Literal["exact", "lower_bound", "estimate"]


class PixelDistribution(ABC):
    """Distribution of one pixel value given ``params``; see the module's docstring for the shapes.

    Args:
        levels: number of values a pixel can take.

    Attributes:
        num_params: number of parameters for a value.
        needs_float32: whether a network's last layer must compute the parameters in float32.
        likelihood: ``"exact"``, or ``"lower_bound"`` if ``log_prob`` is one draw of a bound.

    Raises:
        InputError: if ``levels`` is below 2.
    """

    num_params: int
    likelihood: ClassVar[Likelihood] = "exact"
    # bfloat16 is too coarse for parameters that are positions on the axis of values.
    needs_float32: ClassVar[bool] = True

    def __init__(self, levels: int) -> None:
        if levels < 2:
            raise InputError(f"levels={levels}: a pixel takes at least 2 values")
        self.levels = levels

    @abstractmethod
    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Give the log-probability of each value in nats, of the shape of ``x``; always computed in float32."""

    @abstractmethod
    def sample(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        """Give the value at which the CDF passes ``u``, in [0, 1], of the shape of ``u``."""

    @abstractmethod
    def mean(self, params: Tensor) -> Tensor:
        """Give the expected value in [0, 1], ``(B, *S)``; a mixture of logistics averages its component means."""

    @abstractmethod
    def fit(self, x: Tensor) -> Tensor:
        """Fit initial parameters ``(num_params, *S)`` to values ``x`` ``(N, *S)``, separately at every position.

        The distribution comes close to that of the values, and gives every level a positive probability.
        """

    def index(self, x: Tensor) -> Tensor:
        """Convert grey levels in [0, 1] to int64 indices."""
        return (x * (self.levels - 1)).round().long()


class Bernoulli(PixelDistribution):
    """Distribution of a binary pixel, with one logit per value.

    Args:
        levels: number of values a pixel can take; must be 2.

    Raises:
        InputError: if there are more than 2 levels: a Bernoulli is no likelihood of grey levels.
    """

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
    """Distribution with one logit for each level, as in Pixel Recurrent Neural Networks (arXiv:1601.06759)."""

    needs_float32 = False

    def __init__(self, levels: int) -> None:
        super().__init__(levels)
        self.num_params = levels

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        return -F.cross_entropy(params.float(), self.index(x), reduction="none")

    def sample(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        cdf = torch.softmax(params.float() / temperature, 1).cumsum(1)
        # The number of levels whose CDF is at most u. The division makes the end of the CDF exactly 1; by rounding, u
        # could exceed it otherwise.
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
    """Mixture of logistics integrated over the bin of each level: PixelCNN++ (arXiv:1701.05517), equation 2.

    Values are scaled to [-1, 1] with bins of width ``2 / (levels - 1)``; the outermost bins extend to infinity. Here
    the network conditions a value on the channels before it, instead of the paper's linear coefficients.

    Args:
        levels: number of values a pixel can take.
        num_components: number of components; 1 is the discretized logistic of a VAE's decoder.

    Raises:
        InputError: if ``num_components`` is below 1.
    """

    def __init__(self, levels: int, num_components: PositiveInt = 10) -> None:
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
        """Give the CDF at each level except the last, ``(B, levels - 1, *S)``."""
        logits, means, log_scales = self._split(params)
        edges = torch.arange(self.levels - 1, device=params.device) * 2 / (self.levels - 1) - 1 + 1 / (self.levels - 1)
        edges = edges.view(1, -1, 1, *[1] * (params.ndim - 2))
        scaled = (edges - means.unsqueeze(1)) * torch.exp(-log_scales).unsqueeze(1) / temperature
        weights = torch.softmax(logits / temperature, 1).unsqueeze(1)
        # Divide by the rounded sum of the weights, so that the end of the CDF is exactly 1.
        return (weights * torch.sigmoid(scaled)).sum(2) / weights.sum(2)

    def sample(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        index = (self.cdf(params, temperature) <= u.unsqueeze(1)).sum(1)
        return index.float() / (self.levels - 1)

    def mean(self, params: Tensor) -> Tensor:
        logits, means, _ = self._split(params)
        return ((torch.softmax(logits, 1) * means).sum(1).clamp(-1, 1) + 1) / 2

    def fit(self, x: Tensor) -> Tensor:
        """Place the components evenly over [-1, 1], weighted by the share of values in the part of each."""
        K = self.num_components
        means = (torch.arange(K, device=x.device) + 0.5) * 2 / K - 1
        part = (x.float() * K).long().clamp(max=K - 1)
        counts = torch.stack([(part == k).sum(0) for k in range(K)])
        logits = torch.log((counts + 0.1) / (len(x) + 0.1 * K))
        if K == 1:
            value = 2 * x.float() - 1
            scale = value.std(0) * math.sqrt(3) / math.pi  # scale of a logistic with that variance
            return torch.stack([logits[0], value.mean(0), scale.clamp_min(0.01).log()])
        rest = [1] * (x.ndim - 1)
        return torch.cat([logits, means.view(-1, *rest).expand_as(logits), torch.full_like(logits, math.log(1 / K))])


class DiscretizedGaussian(PixelDistribution):
    """Normal distribution integrated over the bin of each level, with learned mean and standard deviation.

    The bin of level k is [k, k + 1] / levels; the outermost bins extend to infinity, so that the probabilities sum to
    1. They are the integrals that :class:`DequantizedGaussian` bounds, except that this one loses no mass.
    """

    num_params = 2

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = params.float().unbind(1)
        return mean, log_std.clamp(-7.0, 7.0)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        mean, log_std = self._split(params)
        index = self.index(x)
        per_unit = torch.exp(-log_std)  # standard deviations in the range of the grey levels
        middle = ((index + 0.5) / self.levels - mean) * per_unit
        half = 0.5 / self.levels * per_unit
        log_bin = log_interval(middle, half)
        log_bin = torch.where(index == 0, log_below(middle + half), log_bin)
        return torch.where(index == self.levels - 1, log_below(half - middle), log_bin)

    def sample(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        mean, log_std = self._split(params)
        quantile = torch.special.ndtri(u.clamp(1e-7, 1 - 1e-7))
        return quantize(mean + temperature * log_std.exp() * quantile, self.levels)

    def mean(self, params: Tensor) -> Tensor:
        """Give the grey level in whose bin the mean lies in the middle, ``(B, *S)``, in [0, 1]."""
        return ((self._split(params)[0] * self.levels - 0.5) / (self.levels - 1)).clamp(0, 1)

    def fit(self, x: Tensor) -> Tensor:
        point = (self.index(x) + 0.5) / self.levels
        return torch.stack([point.mean(0), point.std(0).clamp_min(0.01).log()])


class DequantizedGaussian(DiscretizedGaussian):
    """Normal density of the value after uniform dequantization: a lower bound on the level's log-probability.

    ``log_prob`` is a one-sample estimate of the bound, log N((k + u) / levels) - log levels with u ~ U[0, 1). On
    average it is below the logarithm of the bin's integral (A note on the evaluation of generative models,
    arXiv:1511.01844, section 3.1), and mass outside [0, 1] is lost to the bound; in sampling it goes to the outermost
    levels. Its figures are thus bounds in every model; :class:`DiscretizedGaussian` has the integral itself.
    """

    likelihood: ClassVar[Likelihood] = "lower_bound"

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        mean, log_std = self._split(params)
        point = (self.index(x) + torch.rand(x.shape, device=x.device)) / self.levels
        density = -0.5 * ((point - mean) / log_std.exp()).square() - log_std - 0.5 * math.log(2 * math.pi)
        return density - math.log(self.levels)

    def mean(self, params: Tensor) -> Tensor:
        return self._split(params)[0].clamp(0, 1)


class IsotropicGaussian(nn.Module, DequantizedGaussian):
    """Normal density with one learned standard deviation for all values, after uniform dequantization.

    A VAE with this distribution and linear networks is probabilistic principal component analysis (Tipping and Bishop,
    1999), as Don't Blame the ELBO! (arXiv:1911.02469) shows. Figures are bounds, as those of
    :class:`DequantizedGaussian`.

    Args:
        levels: number of values a pixel can take.

    Attributes:
        log_std: logarithm of the standard deviation in the range of the grey levels, ``()``.
    """

    num_params = 1

    def __init__(self, levels: int) -> None:
        nn.Module.__init__(self)
        PixelDistribution.__init__(self, levels)
        self.log_std = nn.Parameter(torch.tensor(-1.0))

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor]:
        return params.squeeze(1).float(), self.log_std.float().clamp(-7.0, 7.0)

    def fit(self, x: Tensor) -> Tensor:
        """Fit the means to the values; the standard deviation becomes that of all deviations from them."""
        mean, log_std = super().fit(x)
        with torch.no_grad():
            self.log_std.copy_(log_std.exp().square().mean().sqrt().log())
        return mean.unsqueeze(0)


def natural(levels: int, num_components: PositiveInt = 10) -> PixelDistribution:
    """Choose the natural distribution for a number of levels.

    That is Bernoulli for 2 levels, one logit per level for up to ``FEW_LEVELS``, and a mixture of logistics for more.

    Args:
        levels: number of values a pixel can take.
        num_components: number of components, if the distribution is a mixture.
    """
    if levels == 2:
        return Bernoulli(levels)
    if levels <= FEW_LEVELS:
        return Categorical(levels)
    return DiscretizedLogisticMixture(levels, num_components)
