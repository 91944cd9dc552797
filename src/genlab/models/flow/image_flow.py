"""The base class of normalizing flows of images: dequantization, likelihood and sampling of grey levels."""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from genlab.distributions.dequantization import dequantize, from_logit, quantize, to_logit
from genlab.distributions.noise import Generators, normal, uniform
from genlab.distributions.pixel import Likelihood
from genlab.errors import InputError
from genlab.models.adversarial import given
from genlab.models.base import LikelihoodModel
from genlab.models.graph import Graph, of_method, typical
from genlab.models.sampling import SamplingSettings


def eighth_of_a_bin(levels: int) -> float:
    """Return ``1 / (8 levels)``, the default margin ``alpha`` that keeps a logit's argument away from 0 and 1.

    With the 0.05 of RealNVP's paper, the logit maps the bin of black to a very narrow interval that the flow must first
    find: on MNIST it was 0.9 bits/dim worse after 300 steps. As ``alpha`` goes to 0, the noise in that bin turns from
    uniform to exponential, which a Gaussian fits worse: by 0.34 bits per black pixel at 1e-6 and by 0.1 at an eighth of
    a bin, which learns as quickly.
    """
    return 1 / (8 * max(levels, 1))


class ImageFlow(LikelihoodModel):
    """A normalizing flow of images: noise dequantizes grey levels to reals ``h``, and an invertible map gives ``z``.

    ``log_prob`` is one draw of a lower bound: the model's probability of an image is the mean over the noise ``u`` of
    the density in the image's bin divided by the density of ``u``, and the mean of the logarithm is below the logarithm
    of the mean (A note on the evaluation of generative models, arXiv:1511.01844). The volume of the bin, the density of
    the noise and the slope of the logit are included, so bits/dim are those of the discrete data.

    A subclass implements ``transform`` and ``inverse``; if its prior is not the standard normal, also ``log_prior``,
    ``from_noise`` and ``to_noise``. The latents of ``encode`` and ``decode`` are standard normal in any case.

    Args:
        shape: image shape ``(C, H, W)``.
        num_classes: number of classes; None for an unconditional model.
        levels: number of grey levels of the data.
        alpha: margin of the logit, above 0 and below 0.5: ``h = logit(alpha + (1 - 2 alpha) x)`` for dequantized images
            ``x`` in [0, 1]; None for ``h = x``.
        dequantization: module that draws ``u`` in (0, 1), ``(B, C, H, W)``, for images, and returns its log-density in
            nats, ``(B,)``; None for uniform ``u``.

    Raises:
        InputError: if the shape is not an image's or is a single value, or an option is out of its range.
    """

    likelihood: Likelihood = "lower_bound"
    most_diagnosed: ClassVar[int | None] = 100  # few images, because some flows are inverted by slow bisection

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int | None = None,
        levels: int = 256,
        alpha: float | None = None,
        dequantization: nn.Module | None = None,
    ) -> None:
        super().__init__(shape, num_classes)
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: {type(self).__name__} models images (C, H, W)")
        if math.prod(shape) == 1:
            raise InputError(f"shape {tuple(shape)}: a coupling needs at least two values, one to transform the other")
        if levels < 2:
            raise InputError(f"levels={levels}: a pixel takes at least 2 values")
        if alpha is not None and not 0 < alpha < 0.5:
            raise InputError(f"alpha={alpha}: expected above 0 and below 0.5, or null")
        self.levels, self.alpha = levels, alpha
        self.dequantization = dequantization

    # -- what a subclass implements ------------------------------------------------------------------------------------

    @abstractmethod
    def transform(self, h: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map reals ``h``, ``(B, C, H, W)``, to ``z``, ``(B, D)``, and ``log|det dz/dh|`` in nats, ``(B,)``.

        Raises:
            InputError: if the model is conditional and ``y`` is None.
        """

    @abstractmethod
    def inverse(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map ``z`` back to reals ``(B, C, H, W)``: the inverse of ``transform``.

        Raises:
            InputError: if the model is conditional and ``y`` is None.
        """

    def log_prior(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the log-density of ``z`` under the prior, in nats, ``(B,)``."""
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)

    def from_noise(self, noise: Tensor, y: Tensor | None = None) -> Tensor:
        """Map standard normal noise ``(B, D)`` to draws ``z`` of the prior."""
        return noise

    def to_noise(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map ``z`` back to standard normal noise: the inverse of ``from_noise``."""
        return z

    # -- between dequantized images in [0, 1] and reals ----------------------------------------------------------------

    def _check(self, y: Tensor | None) -> None:
        if self.num_classes is not None:
            given(y)

    def _to_reals(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Map dequantized images ``(B, C, H, W)`` to ``h`` and the log-determinant ``(B,)``."""
        if self.alpha is None:
            return point, point.new_zeros(len(point))
        return to_logit(point, self.alpha)

    def _middle(self, x: Tensor) -> Tensor:
        """Compute ``h`` of images dequantized to the middle of their bins."""
        return self._to_reals(dequantize(x, 0.5, self.levels)[0])[0]

    def _draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Dequantize images: a point in each bin, ``(B, C, H, W)``, and log(bin volume / noise density), ``(B,)``."""
        if self.dequantization is None:
            return dequantize(x, uniform(x.shape, None, x.device), self.levels)
        u, log_q = self.dequantization(x)
        point, log_bin = dequantize(x, u, self.levels)
        return point, log_bin - log_q

    # -- the contract --------------------------------------------------------------------------------------------------

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return one draw of the lower bound on the log-likelihood of grey levels, in nats, ``(B,)``.

        Raises:
            InputError: if the model is conditional and ``y`` is None.
        """
        point, log_weight = self._draw(x)
        h, log_slope = self._to_reals(point)
        z, log_det = self.transform(h, y)
        return self.log_prior(z, y) + log_det + log_slope + log_weight

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Encode images, dequantized to the middle of their bins, as latents ``(B, D)`` whose prior is N(0, I)."""
        return self.to_noise(self.transform(self._middle(x), y)[0], y)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Decode latents ``(B, D)``, whose prior is N(0, I), to images in [0, 1] that are not yet quantized."""
        h = self.inverse(self.from_noise(z, y), y)
        return h.clamp(0, 1) if self.alpha is None else from_logit(h, self.alpha)

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        sampling: SamplingSettings | None = None,
    ) -> Tensor:
        """Draw images of grey levels; the temperature is the standard deviation of the latents."""
        y = self.classes(num_samples, y, generator)
        z = self.settings(sampling).temperature * normal((num_samples, self.num_dims), generator, self.device)
        return quantize(self.decode(z, y), self.levels)

    def graph(self) -> Graph:
        """Give the inverse flow: latents to images that are not yet quantized."""
        about = f"z: latents from N(0, I), (B, {self.num_dims}); x: images in [0, 1], not yet rounded to grey levels"
        return of_method(self, "decode", {"z": typical(2, self.num_dims)}, ["x"], about, self.num_classes)

    def describe_sampler(self, sampling: SamplingSettings | None = None) -> str:
        return "inverse flow, quantized"

    @torch.no_grad()
    def diagnose(self, x: Tensor, y: Tensor | None = None) -> dict[str, float | Tensor]:
        """Measure ``inverse_error``: the largest difference of any value of ``h`` from ``inverse(transform(h))``.

        A flow is invertible in exact arithmetic, but a steep one is not in float32; its samples and its likelihood are
        then not to be trusted.
        """
        h = self._middle(x)
        back = self.inverse(self.transform(h, y)[0], y)
        return {"inverse_error": float((h - back).abs().max())}
