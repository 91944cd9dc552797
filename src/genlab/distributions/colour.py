"""Joint distributions of a pixel's channels, in which each channel depends on the channels before it."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from genlab.distributions.pixel import DiscretizedLogisticMixture, PixelDistribution
from genlab.errors import InputError


class PixelChannels(ABC):
    """Factorization of a pixel's joint distribution over its channels, with all parameters from one network output.

    Attributes:
        num_params: number of parameters for a pixel.
    """

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


class OneChannel(PixelChannels):
    """Distribution of the only channel, for images of one channel; it may have any form.

    Args:
        each: distribution of a value.
    """

    def __init__(self, each: PixelDistribution) -> None:
        self.num_params = each.num_params

    def given(self, params: Tensor, x: Tensor) -> Tensor:
        return params.unsqueeze(2)


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

    def __init__(self, each: DiscretizedLogisticMixture, channels: int) -> None:
        self.each, self.channels = each, channels
        self.component = DiscretizedLogisticMixture(each.levels, 1)
        self.num_pairs = math.comb(channels, 2)
        # Each component has a logit, C means, C log-scales, and a coefficient for every pair of channels.
        self.num_params = each.num_components * (1 + 2 * channels + self.num_pairs)

    def given(self, params: Tensor, x: Tensor) -> Tensor:
        C, K = self.channels, self.each.num_components
        params = params.float().unflatten(1, (1 + 2 * C + self.num_pairs, K))
        logits, means, log_scales, coefficients = params.split([1, C, C, self.num_pairs], dim=1)
        logits = torch.log_softmax(logits[:, 0], 1)  # (B, K, *S)
        coefficients = torch.tanh(coefficients)
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
