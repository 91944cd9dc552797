"""NADE: a value after the other, from hidden units whose sums grow by one input a value."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genlab.distributions.drawing import Draws
from genlab.distributions.noise import Generators, mix, uniform
from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError
from genlab.layers.precision import own_precision
from genlab.layers.raster import to_image, to_sequence
from genlab.models.base import AutoregressiveModel, given

ACTIVATIONS = {"sigmoid": torch.sigmoid, "relu": torch.relu}


class NADE(AutoregressiveModel):
    """Neural Autoregressive Distribution Estimation (arXiv:1605.02226), section 2.

    ``p(x) = prod_i p(x_i | x_<i)``, where position i has ``h_i = sigmoid(c + W[:, <i] x_<i)`` and its distribution the
    parameters ``b_i + V_i h_i``. A class chooses ``c``.

    The hidden activations of all positions, ``(B, D, H)``, are never held at once: they would be written and read ten
    times over, and that costs more than the arithmetic. ``chunk`` positions are computed together, from the sum before
    the first of them and a triangular product among them, and computed again in the backward pass.

    Args:
        shape: ``(C, H, W)``.
        distribution: of one value.
        hidden: H of the paper.
        num_classes: of a class-conditional model.
        activation: of the hidden units; the paper's is the sigmoid.
        order: of the values: "natural" is raster order, the channels of a pixel one after the other; "random" one
            permutation of them.
        seed: of the random order, which checkpoints keep.
        chunk: positions at once; it changes the speed alone.

    Raises:
        InputError: the shape is not an image's, a size is not positive, or a name is unknown.
    """

    order: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        distribution: PixelDistribution,
        hidden: int = 500,
        num_classes: int | None = None,
        activation: Literal["sigmoid", "relu"] = "sigmoid",
        order: Literal["natural", "random"] = "natural",
        seed: int = 0,
        chunk: int = 16,
    ) -> None:
        super().__init__(shape, num_classes)
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: NADE models images (C, H, W)")
        if hidden < 1 or chunk < 1:
            raise InputError(f"hidden={hidden}, chunk={chunk}: expected at least 1 of each")
        if activation not in ACTIVATIONS:
            raise InputError(f"activation={activation}: choose one of {', '.join(ACTIVATIONS)}")
        if order not in ("natural", "random"):
            raise InputError(f"order={order}: choose natural or random")
        D, P = self.num_dims, distribution.num_params
        self.distribution = distribution
        self.chunk = chunk
        self.activation = ACTIVATIONS[activation]
        # Which value comes i-th; W, V and b are in this order too.
        permutation = torch.randperm(D, generator=torch.Generator().manual_seed(mix(seed)))
        self.register_buffer("order", permutation if order == "random" else torch.arange(D))
        self.W = nn.Parameter(torch.empty(D, hidden).uniform_(-(D**-0.5), D**-0.5))  # transposed: row i is x_i's
        self.V = nn.Parameter(torch.empty(P, D, hidden).uniform_(-(hidden**-0.5), hidden**-0.5))
        self.b = nn.Parameter(torch.empty(P, D).uniform_(-(hidden**-0.5), hidden**-0.5))
        self.c = nn.Parameter(torch.empty(num_classes or 1, hidden).uniform_(-(D**-0.5), D**-0.5))

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """The biases become those of each value's own distribution in ``x``."""
        with torch.no_grad():
            self.b.copy_(self.distribution.fit(to_sequence(x)[:, self.order]))

    def _start(self, num: int, y: Tensor | None) -> Tensor:
        """The activations of the first position, ``(num, H)``."""
        return self.c.expand(num, -1) if self.num_classes is None else self.c[given(y)]

    def _read_out(self, h: Tensor, V: Tensor) -> Tensor:
        """Hidden units of T positions ``(T, B, H)`` and their ``V``, ``(P, T, H)``, to ``(T, B, P)``."""
        with own_precision(h, self.distribution.needs_float32):
            return torch.bmm(h.to(V.dtype), V.permute(1, 2, 0))

    def _chunk(self, a: Tensor, x: Tensor, W: Tensor, V: Tensor) -> Tensor:
        """Parameters, without ``b``, of T positions in order, ``(T, B, P)``.

        Args:
            a: activations of the first of them, ``(B, H)``.
            x, W, V: their values ``(T, B)`` and their weights, ``(T, H)`` and ``(P, T, H)``.
        """
        T, B = x.shape
        earlier = torch.ones(T, T, dtype=x.dtype, device=x.device).tril(-1)
        before = x.T * earlier[:, None]  # (T, B, T): [t, :, s] is x_s if s is before t, else 0
        a = (before.flatten(0, 1) @ W).view(T, B, -1) + a
        return self._read_out(self.activation(a), V)

    def _params(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Values in their order ``(B, D)`` to the parameters of each, ``(B, P, D)``."""
        T = self.chunk
        x = x.T.to(self.W.dtype)
        a = self._start(x.shape[1], y)
        chunks = []
        for x_now, W_now, V_now in zip(x.split(T), self.W.split(T), self.V.split(T, dim=1), strict=True):
            chunks.append(checkpoint(self._chunk, a, x_now, W_now, V_now, use_reentrant=False))
            a = a + x_now.T @ W_now
        return torch.cat(chunks).permute(1, 2, 0) + self.b

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Images in [0, 1] to the parameters of each value given the values before, ``(B, num_params, C, H, W)``."""
        params = self._params(to_sequence(x)[:, self.order], y)
        return to_image(params[..., self.order.argsort()], self.shape)

    def log_prob_map(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        values = to_sequence(x)[:, self.order]
        log_probs = self.distribution.log_prob(self._params(values, y), values)
        return to_image(log_probs[:, self.order.argsort()], self.shape)

    @property
    def orders(self) -> Tensor:
        return to_image(self.order.argsort(), self.shape).unsqueeze(0)

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        temperature: float = 1.0,
        known: Tensor | None = None,
    ) -> Tensor:
        """Value by value; each adds its column of W to the activations, so that all cost as much as one pass."""
        y = self.classes(num_samples, y, generator)
        u = uniform((num_samples, *self.shape), generator, self.device)
        draws = Draws(self.distribution, u, temperature, known).map(to_sequence)
        a = self._start(num_samples, y)
        x = torch.empty_like(draws.u)  # (N, D)
        for i, value in enumerate(self.order.tolist()):
            params = self._read_out(self.activation(a)[None], self.V[:, i : i + 1])[0] + self.b[:, i]  # (N, P)
            x[:, value] = draws(params, value)
            a = a + x[:, value, None].to(a.dtype) * self.W[i]
        return to_image(x, self.shape)
