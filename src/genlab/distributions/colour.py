"""Distributions of a pixel's channels: each on its own, or each dependent on the channels before it."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from genlab.distributions.pixel import DiscretizedLogisticMixture, PixelDistribution
from genlab.errors import InputError


class PixelChannels(ABC):
    """Factorization of a pixel's joint distribution over its channels, with all parameters from one network output.

    Attributes:
        each: distribution of one channel given the channels before it.
        num_params: number of parameters for a pixel.
    """

    each: PixelDistribution
    num_params: int

    @abstractmethod
    def given(self, params: Tensor, x: Tensor) -> Tensor:
        """Compute the parameters of each channel's distribution given the channels before it.

        Args:
            params: parameters of the pixels, ``(B, num_params, *S)``.
            x: first ``c`` channels of the pixels, or all of them, in [0, 1], ``(B, c, *S)``.

        Returns:
            Parameters ``(B, parameters of a value, c + 1, *S)``: one channel more than ``x`` has, but at most ``C``.
        """

    @abstractmethod
    def mean(self, params: Tensor) -> Tensor:
        """Compute the expected pixels in [0, 1], ``(B, C, *S)``, from their parameters ``(B, num_params, *S)``."""

    @abstractmethod
    def fit(self, x: Tensor) -> Tensor:
        """Fit initial parameters ``(num_params,)`` to pixels ``(N, C)``; every value keeps a positive probability."""

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Compute the log-probability of every value given the channels before it, in nats, ``(B, C, *S)``.

        Args:
            params: parameters of the pixels, ``(B, num_params, *S)``.
            x: pixels in [0, 1], ``(B, C, *S)``.
        """
        return self.each.log_prob(self.given(params, x), x)

    def sample(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        """Draw pixels channel by channel, ``(B, C, *S)``, by inverting the CDF of each at a uniform number.

        Args:
            params: parameters of the pixels, ``(B, num_params, *S)``.
            u: uniform numbers, ``(B, C, *S)``.
            temperature: temperature of every channel's distribution.
        """
        x = torch.empty_like(u[:, :0])
        for c in range(u.shape[1]):
            of_channel = self.given(params, x)[:, :, c : c + 1]
            x = torch.cat([x, self.each.sample(of_channel, u[:, c : c + 1], temperature)], 1)
        return x


class SeparateChannels(PixelChannels):
    """Channels that are independent of each other given the parameters of the pixel.

    Args:
        each: distribution of a value.
        channels: number of channels C.
    """

    def __init__(self, each: PixelDistribution, channels: int) -> None:
        self.each, self.channels = each, channels
        self.num_params = each.num_params * channels

    def given(self, params: Tensor, x: Tensor) -> Tensor:
        return params.unflatten(1, (self.each.num_params, self.channels))

    def mean(self, params: Tensor) -> Tensor:
        return self.each.mean(params.unflatten(1, (self.each.num_params, self.channels)))

    def fit(self, x: Tensor) -> Tensor:
        return self.each.fit(x).flatten()

    def sample(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        return self.each.sample(self.given(params, u), u, temperature)  # all channels at once


class OneChannel(PixelChannels):
    """Distribution of the only channel, for images of one channel; it may have any form.

    Args:
        each: distribution of a value.
    """

    def __init__(self, each: PixelDistribution) -> None:
        self.each = each
        self.num_params = each.num_params

    def given(self, params: Tensor, x: Tensor) -> Tensor:
        return params.unsqueeze(2)

    def mean(self, params: Tensor) -> Tensor:
        return self.each.mean(params.unsqueeze(2))

    def fit(self, x: Tensor) -> Tensor:
        return self.each.fit(x).flatten()


class LinearChannels(PixelChannels):
    """Mixture whose means depend linearly on the channels before: equation 3 of PixelCNN++ (arXiv:1701.05517).

    It works for any number of channels. A pixel has one mixture; in component ``k`` a channel is a discretized logistic
    whose mean is shifted by a multiple of each channel before it. Given those channels, one channel is again a mixture
    of discretized logistics, in which the components are weighted by how well they predicted the channels before. The
    product over channels is the joint probability.

    Args:
        each: distribution of one channel given the channels before it, with K components.
        channels: number of channels C.
    """

    each: DiscretizedLogisticMixture

    def __init__(self, each: DiscretizedLogisticMixture, channels: int) -> None:
        self.each, self.channels = each, channels
        self.component = DiscretizedLogisticMixture(each.levels, 1)
        self.num_pairs = math.comb(channels, 2)
        # Each component has a logit, C means, C log-scales, and a coefficient for every pair of channels.
        self.num_params = each.num_components * (1 + 2 * channels + self.num_pairs)

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Split into logits ``(B, K, *S)``, means and log-scales ``(B, C, K, *S)``, and coefficients of the pairs."""
        C, K = self.channels, self.each.num_components
        params = params.float().unflatten(1, (1 + 2 * C + self.num_pairs, K))
        logits, means, log_scales, coefficients = params.split([1, C, C, self.num_pairs], dim=1)
        return logits[:, 0], means, log_scales, torch.tanh(coefficients)

    def given(self, params: Tensor, x: Tensor) -> Tensor:
        C = self.channels
        logits, means, log_scales, coefficients = self._split(params)
        logits = torch.log_softmax(logits, 1)
        value = 2 * x.float() - 1
        channels, pair = [], 0
        for c in range(min(x.shape[1] + 1, C)):
            mean = means[:, c]
            for before in range(c):
                mean = mean + coefficients[:, pair] * value[:, before : before + 1]
                pair += 1
            channels.append(torch.cat([logits, mean, log_scales[:, c]], dim=1))  # (B, 3K, *S)
            if c + 1 < C and c < x.shape[1]:
                alone = torch.stack([torch.zeros_like(mean), mean, log_scales[:, c]], dim=1)  # (B, 3, K, *S)
                logits = logits + self.component.log_prob(alone, x[:, c : c + 1].expand_as(mean))
        return torch.stack(channels, dim=2)

    def mean(self, params: Tensor) -> Tensor:
        """Average the components' means; in each, a channel is shifted by the means of the channels before it."""
        logits, means, _, coefficients = self._split(params)
        channels: list[Tensor] = []
        pair = 0
        for c in range(self.channels):
            mean = means[:, c]
            for before in channels:
                mean = mean + coefficients[:, pair] * before
                pair += 1
            channels.append(mean.clamp(-1, 1))
        weights = torch.softmax(logits, 1).unsqueeze(1)
        return ((weights * torch.stack(channels, 1)).sum(2) + 1) / 2

    def fit(self, x: Tensor) -> Tensor:
        """Fit a component to each of K groups of pixels of like brightness, of equal size; no channel shifts another.

        A component has the mean and the standard deviation of each channel in its group.
        """
        K = self.each.num_components
        value = 2 * x.float() - 1
        groups = value[value.mean(1).argsort(stable=True)].tensor_split(K)
        usable = [group if len(group) > 1 else value for group in groups]
        means = torch.stack([group.mean(0) for group in usable], 1)  # (C, K)
        stds = torch.stack([group.std(0, correction=0) for group in usable], 1)
        scales = (stds * math.sqrt(3) / math.pi).clamp_min(0.01)  # scale of a logistic with that deviation
        nothing = x.new_zeros(1, K), x.new_zeros(self.num_pairs, K)
        return torch.cat([nothing[0], means, scales.log(), nothing[1]]).flatten()


def jointly(channels: int, distribution: PixelDistribution) -> PixelChannels:
    """Choose the joint distribution of a pixel's channels, given their number and the distribution of one value.

    Raises:
        InputError: if there are several channels, and the distribution has no means to shift.
    """
    if channels == 1:
        return OneChannel(distribution)
    if not isinstance(distribution, DiscretizedLogisticMixture):
        raise InputError(
            f"the {channels} channels of a pixel are modelled by one mixture of logistics: "
            "use distribution=logistic_mixture"
        )
    return LinearChannels(distribution, channels)
