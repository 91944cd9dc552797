"""The channels of a pixel jointly, by a mixture whose components shift with the channels before."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from genlab.distributions.pixel import DiscretizedLogisticMixture, PixelDistribution
from genlab.errors import InputError


class PixelChannels(ABC):
    """How one output of a network for each pixel tells all of its channels.

    Attributes:
        num_params: of a pixel.
    """

    num_params: int

    @abstractmethod
    def given(self, params: Tensor, x: Tensor) -> Tensor:
        """Parameters of each channel's distribution given the channels before it.

        Args:
            params: of the pixels, ``(B, num_params, *S)``.
            x: their channels in [0, 1], or the first ``c`` of them, ``(B, c, *S)``.

        Returns:
            ``(B, parameters of a value, c + 1, *S)``, at most of all ``C`` channels.
        """


class OneChannel(PixelChannels):
    """Of images of one channel: there are none before it, and any distribution will do."""

    def __init__(self, each: PixelDistribution) -> None:
        self.num_params = each.num_params

    def given(self, params: Tensor, x: Tensor) -> Tensor:
        return params.unsqueeze(2)


class LinearChannels(PixelChannels):
    """Equation 3 of PixelCNN++ (arXiv:1701.05517), for any number of channels.

    A pixel has one mixture; in component ``k`` a channel is a discretized logistic whose mean is moved by a multiple of
    each of the channels before it. Given those, a channel alone is again a mixture of discretized logistics, with the
    components weighted by how well they told the channels before; the product of these is the joint probability.

    Args:
        each: distribution of one channel given those before it; K components.
        channels: C.
    """

    def __init__(self, each: DiscretizedLogisticMixture, channels: int) -> None:
        self.each, self.channels = each, channels
        self.component = DiscretizedLogisticMixture(each.levels, 1)
        self.num_pairs = math.comb(channels, 2)
        # Of each component: its logit, means, log-scales, and a coefficient for every pair of channels.
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
    """Of images with so many channels and this distribution of one value.

    Raises:
        InputError: there are several channels, and the distribution has no means to move.
    """
    if channels == 1:
        return OneChannel(distribution)
    if not isinstance(distribution, DiscretizedLogisticMixture):
        raise InputError(
            f"the {channels} channels of a pixel are told by one mixture of logistics: "
            "use distribution=logistic_mixture"
        )
    return LinearChannels(distribution, channels)
