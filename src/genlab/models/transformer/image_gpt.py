"""ImageGPT: Generative Pretraining from Pixels (Chen et al., ICML 2020)."""

from typing import ClassVar, Unpack

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from genlab.distributions.drawing import Draws
from genlab.distributions.noise import Generators, uniform
from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError
from genlab.layers.raster import to_image
from genlab.models.adversarial import given
from genlab.models.base import AutoregressiveModel
from genlab.networks.transformer import Options, Transformer, init_weights


class ImageGPT(AutoregressiveModel):
    """A causal transformer over the values of an image with exact likelihood, p(x | y) = prod_i p(x_i | x_<i, y).

    The sequence is the image in raster order, with the channels of a pixel one after the other: L = H W C values. The
    paper quantizes each pixel to one of 512 colours. Here every channel value is a step, so that the likelihood is that
    of the image itself. Position i sees the values before it; position 0 sees a learned start vector, one per class if
    the model is conditional.

    Args:
        shape: ``(C, H, W)``; time and memory of attention grow with the square of C H W.
        distribution: distribution of a value given the values before it.
        num_classes: number of classes; None for an unconditional model.
        num_layers: number of blocks of the :class:`~genlab.networks.transformer.Transformer`.
        num_heads: number of attention heads.
        width: number of features of each position.
        **transformer: further options of :class:`~genlab.networks.transformer.Transformer`.

    Raises:
        InputError: if the shape is not that of an image, or an option is invalid for
            :class:`~genlab.networks.transformer.Transformer`.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"image", "binary", "codes"})

    def __init__(
        self,
        shape: tuple[int, int, int],
        distribution: PixelDistribution,
        num_classes: int | None = None,
        num_layers: int = 4,
        num_heads: int = 4,
        width: PositiveInt = 128,
        **transformer: Unpack[Options],
    ) -> None:
        super().__init__(shape, num_classes)
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: ImageGPT models images, expected (C, H, W)")
        self.distribution = distribution
        self.transformer = Transformer(num_layers, num_heads, width, self.num_dims, **transformer)
        self.start = nn.Embedding(1 if num_classes is None else num_classes, width)
        self.values = nn.Embedding(distribution.levels, width)
        # Not zero, because the components of a mixture would start equal and stay equal.
        self.head = nn.Linear(width, distribution.num_params)
        for module in (self.start, self.values, self.head):
            init_weights(module)

    def _to_sequence(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)  # (B, C, H, W) -> (B, H, W, C) -> (B, L)

    def _to_image(self, values: Tensor) -> Tensor:
        C, H, W = self.shape
        return values.view(-1, H, W, C).permute(0, 3, 1, 2).contiguous()  # (B, L) -> (B, H, W, C) -> (B, C, H, W)

    def _embed_start(self, num: int, y: Tensor | None) -> Tensor:
        """Embed the start vector that position 0 sees, ``(num, 1, width)``."""
        if self.num_classes is None:
            y = torch.zeros(num, dtype=torch.long, device=self.device)
        return self.start(given(y)).unsqueeze(1)

    def _embed_values(self, values: Tensor) -> Tensor:
        """Embed values ``(B, T)`` in [0, 1] as features ``(B, T, width)``."""
        return self.values(self.distribution.index(values))

    def _predict(self, h: Tensor) -> Tensor:
        """Map features ``(B, T, width)`` to parameters of the distribution, ``(B, num_params, T)``."""
        # bfloat16 is too coarse to place a mean among 256 levels, so the head ignores autocast.
        with torch.autocast(h.device.type, enabled=False):
            return self.head(h.to(self.head.weight.dtype)).transpose(1, 2)

    def likelihood_params(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Predict the parameters of p(x_i | x_<i, y) at every position of the sequence, ``(B, num_params, L)``."""
        before = self._to_sequence(x)[:, :-1]  # no position sees the last value
        h = torch.cat([self._embed_start(len(x), y), self._embed_values(before)], dim=1)  # (B, L, width)
        return self._predict(self.transformer(h))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Predict the parameters of each value given the values before it, ``(B, num_params, C, H, W)``."""
        return to_image(self.likelihood_params(x, y), self.shape)

    def log_prob_map(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self._to_image(self.distribution.log_prob(self.likelihood_params(x, y), self._to_sequence(x)))

    def _uniforms(self, num: int, generator: Generators) -> Tensor:
        return self._to_image(uniform((num, self.num_dims), generator, self.device))  # in the order of the sequence

    def _generate(self, draws: Draws, y: Tensor | None) -> Tensor:
        draws = draws.map(self._to_sequence)
        x = torch.empty_like(draws.u)  # (N, L)
        caches = self.transformer.caches()
        h = self._embed_start(len(draws.u), y)
        for i in range(self.num_dims):
            params = self._predict(self.transformer(h, caches))  # (N, num_params, 1)
            x_i = draws(params, slice(i, i + 1))
            x[:, i : i + 1] = x_i
            h = self._embed_values(x_i)  # (N, 1, width)
        return self._to_image(x)
