"""MADE: an autoencoder whose masked weights let each output see only the values before its own."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.drawing import Draws
from genlab.distributions.noise import Generators, integers, mix
from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError
from genlab.layers.precision import own_precision
from genlab.layers.raster import to_image, to_sequence
from genlab.models.adversarial import given
from genlab.models.base import AutoregressiveModel


class MADE(AutoregressiveModel):
    """MADE: Masked Autoencoder for Distribution Estimation (arXiv:1502.03509).

    ``p(x) = prod_i p(x_i | x_<i)`` in some order of the values. A network of ReLU units computes all factors in one
    pass. A unit of degree m sees the first m values of the order; the weights from other values are masked.

    With several masks, each with its own order and degrees (the paper's order-agnostic and connectivity-agnostic
    training), each training step uses one of them, and the model is their mixture: ``p(x) = mean_k p_k(x)``. This is
    the mean of the joint probabilities; a product of factors averaged over orders would not be normalised. A class adds
    a learned bias to every layer.

    Args:
        shape: image shape ``(C, H, W)``.
        distribution: distribution of one value given the values before it.
        hidden: widths of the hidden layers.
        num_classes: number of classes; None for an unconditional model.
        num_masks: number of masks in the mixture. Only the degrees of their units are stored; a mask is built when it
            is used.
        order: "random" draws an order for each mask; "natural" is raster order, the channels of a pixel one after the
            other.
        direct: whether the values are also connected to the outputs directly.
        seed: random seed of orders and degrees, which checkpoints store, and of the mask of each training step.

    Attributes:
        mask: index of the mask that the current training step uses.

    Raises:
        InputError: if the shape is not an image's, a size is not positive, or the order is unknown.
    """

    ranks: Tensor
    degrees: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        distribution: PixelDistribution,
        hidden: Sequence[int] = (500,),
        num_classes: int | None = None,
        num_masks: int = 1,
        order: Literal["natural", "random"] = "random",
        direct: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(shape, num_classes)
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: MADE models images (C, H, W)")
        if not hidden or min(hidden) < 1:
            raise InputError(f"hidden={list(hidden)}: at least one layer, and 1 unit in each")
        if num_masks < 1:
            raise InputError(f"num_masks={num_masks}: at least 1")
        if order not in ("natural", "random"):
            raise InputError(f"order={order}: choose natural or random")
        D, P = self.num_dims, distribution.num_params
        self.distribution = distribution
        self.hidden = list(hidden)
        self.num_masks = num_masks
        self.seed = seed
        self.mask = 0
        masks = [
            _draw_mask(D, self.hidden, order, torch.Generator().manual_seed(mix(seed, k))) for k in range(num_masks)
        ]
        self.register_buffer("ranks", torch.stack([ranks for ranks, _ in masks]).int())  # (K, D)
        self.register_buffer("degrees", torch.stack([degrees for _, degrees in masks]).int())  # (K, units)
        self.layers = nn.ModuleList(nn.Linear(m, n) for m, n in itertools.pairwise([D, *hidden]))
        self.last = nn.Linear(hidden[-1], P * D)  # row p D + i is parameter p of value i
        self.direct = nn.Linear(D, P * D, bias=False) if direct else None
        if num_classes is not None:
            self.class_bias = nn.Embedding(num_classes, sum(hidden) + P * D)
            nn.init.zeros_(self.class_bias.weight)

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Set the last biases to each value's marginal distribution in ``x``."""
        with torch.no_grad():
            self.last.bias.copy_(self.distribution.fit(to_sequence(x)).flatten())

    def prepare(self, images_seen: int) -> None:
        """Choose the mask of the next training step by a hash of the number of images seen.

        A plain remainder could skip masks, because that number grows by a whole batch at each step.
        """
        self.mask = mix(self.seed, self.num_masks, images_seen) % self.num_masks

    # -- one mask ------------------------------------------------------------------------------------------------------

    def _masked_weights(self, k: int) -> list[Tensor]:
        """Return the weights of all layers under mask ``k``: hidden, last, and direct if there is one."""
        ranks = self.ranks[k]
        degrees = [ranks + 1, *self.degrees[k].split(self.hidden)]
        of_output = ranks.repeat(self.distribution.num_params)  # an output sees only the values before its own
        seen = [after[:, None] >= before for before, after in itertools.pairwise([*degrees, of_output])]
        layers = [*self.layers, self.last]
        if self.direct is not None:
            seen.append(of_output[:, None] >= degrees[0])
            layers.append(self.direct)
        return [torch.where(mask, layer.weight, 0) for mask, layer in zip(seen, layers, strict=True)]

    def _biases(self, y: Tensor | None) -> list[Tensor]:
        """Return the biases of the hidden layers, ``(units,)``, and of the last one, ``(P D,)``.

        If the model is conditional, they have the batch dimension ``B`` in front.
        """
        biases = [layer.bias for layer in (*self.layers, self.last)]
        if self.num_classes is None:
            return biases
        of_class = self.class_bias(given(y)).split([len(bias) for bias in biases], dim=1)
        return [bias + more for bias, more in zip(biases, of_class, strict=True)]

    def params_under(self, k: int, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map values in raster order ``(B, D)`` to the parameters of each under mask ``k``, ``(B, P, D)``."""
        weights, biases = self._masked_weights(k), self._biases(y)
        h = x = x.to(self.last.weight.dtype)
        for weight, bias in zip(weights[: len(self.layers)], biases, strict=False):
            h = F.relu(F.linear(h, weight) + bias)
        with own_precision(h, self.distribution.needs_float32):
            params = F.linear(h.to(x.dtype), weights[len(self.layers)]) + biases[-1]
            if self.direct is not None:
                params = params + F.linear(x, weights[-1])
        return params.unflatten(1, (self.distribution.num_params, -1))

    def log_prob_under(self, k: int, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the log-likelihood of images under mask ``k`` alone, in nats, ``(B,)``."""
        return self._log_probs_under(k, to_sequence(x), y).sum(1)

    def _log_probs_under(self, k: int, values: Tensor, y: Tensor | None) -> Tensor:
        """Return the log-probability of each value under mask ``k``, in raster order, ``(B, D)``."""
        return self.distribution.log_prob(self.params_under(k, values, y), values)

    # -- the contract --------------------------------------------------------------------------------------------------

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Return the negative log-likelihood: of one mask in training mode, else of the mixture.

        On average, the loss of one mask is an upper bound on the loss of the mixture.
        """
        if not self.training:
            return super().loss(x, y)
        nll = -self.log_prob_under(self.mask, x, y).mean()
        return {"loss": self.bits_per_dim(nll), "nll": nll}

    def _only_mask(self) -> int:
        if self.num_masks > 1:
            raise InputError(
                f"this MADE is a mixture of {self.num_masks} orders, whose likelihood is not a product over values: "
                "train it with model.num_masks=1"
            )
        return 0

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map images in [0, 1] to each value's parameters given the values before, ``(B, num_params, C, H, W)``.

        Raises:
            InputError: if there are several masks, which give each value several distributions.
        """
        return to_image(self.params_under(self._only_mask(), to_sequence(x), y), self.shape)

    def log_prob_map(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return ``log p(x_i | x_<i)`` of every value in nats, ``(B, C, H, W)``.

        Raises:
            InputError: if there are several masks, because they are mixed by their joint probabilities.
        """
        return to_image(self._log_probs_under(self._only_mask(), to_sequence(x), y), self.shape)

    @property
    def orders(self) -> Tensor:
        return to_image(self.ranks.long(), self.shape)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the log-likelihood under the mixture of all masks, in nats, ``(B,)``.

        Raises:
            InputError: if the model is conditional and ``y`` is None.
        """
        log_probs = torch.stack([self.log_prob_under(k, x, y) for k in range(self.num_masks)])
        return log_probs.logsumexp(0) - math.log(self.num_masks)

    def _choose_order(self, num: int, generator: Generators) -> Tensor:
        return integers(self.num_masks, num, generator, self.device)

    def _generate(self, draws: Draws, y: Tensor | None) -> Tensor:
        """Draw value by value, all samples of the same mask together; the choice of mask ignores known values."""
        masks, draws = draws.order, draws.map(to_sequence)
        assert masks is not None
        x = torch.empty_like(draws.u)  # (N, D)
        for k in masks.unique().tolist():
            chosen = masks == k
            x[chosen] = self._sample_under(k, draws.of(chosen), None if y is None else y[chosen])
        return to_image(x, self.shape)

    def _sample_under(self, k: int, draws: Draws, y: Tensor | None) -> Tensor:
        """Draw values under mask ``k``, ``(N, D)`` in raster order.

        Each value updates the pre-activations of the first layer by one input and computes only its own rows of the
        last layer; the layers between are computed in full for every value.
        """
        weights, biases = self._masked_weights(k), self._biases(y)
        num_layers, P = len(self.layers), self.distribution.num_params
        from_value = weights[0].T.contiguous()  # (D, units)
        last = weights[num_layers].unflatten(0, (P, -1))  # (P, D, units)
        direct = weights[-1].unflatten(0, (P, -1)) if self.direct is not None else None
        last_bias = biases[-1].expand(len(draws.u), -1).unflatten(1, (P, -1))  # (N, P, D)
        a = biases[0].expand(len(draws.u), -1)
        x = torch.zeros_like(draws.u, dtype=a.dtype)
        for i in self.ranks[k].argsort().tolist():
            h = F.relu(a)
            for weight, bias in zip(weights[1:num_layers], biases[1:num_layers], strict=True):
                h = F.relu(F.linear(h, weight) + bias)
            params = h @ last[:, i].T + last_bias[:, :, i]  # (N, P)
            if direct is not None:
                params = params + x @ direct[:, i].T
            x[:, i] = draws(params, i).to(x.dtype)
            a = a + x[:, i, None] * from_value[i]
        return x.to(draws.u.dtype)


def _draw_mask(D: int, hidden: Sequence[int], order: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw the rank of each value in the order, ``(D,)``, and the degrees of all hidden units, ``(units,)``.

    Degrees are uniform from the smallest degree of the layer before to D - 1, so that every unit has inputs.
    """
    ranks = torch.randperm(D, generator=generator) if order == "random" else torch.arange(D)
    degrees, lowest = [], 1
    for width in hidden:
        degrees.append(torch.randint(lowest, max(D, 2), (width,), generator=generator))
        lowest = int(degrees[-1].min())
    return ranks, torch.cat(degrees)
