"""Small autoregressive models of every kind, and what they do without their shortcuts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genlab.distributions.noise import Generators, integers, uniform
from genlab.distributions.pixel import Categorical, DiscretizedLogisticMixture, PixelDistribution
from genlab.layers.raster import to_image, to_sequence
from genlab.models.autoregressive.fvsbn import FVSBN
from genlab.models.autoregressive.gated_pixel_cnn import GatedPixelCNN
from genlab.models.autoregressive.made import MADE
from genlab.models.autoregressive.nade import NADE
from genlab.models.autoregressive.pixel_cnn import PixelCNN
from genlab.models.autoregressive.pixel_cnn_pp import PixelCNNpp
from genlab.models.autoregressive.pixel_rnn import DiagonalBiLSTM, PixelRNN, RowLSTM
from genlab.models.autoregressive.pixel_snail import PixelSNAIL
from genlab.models.transformer.image_gpt import ImageGPT
from support.small_images import perturbed


@dataclass(frozen=True)
class Small:
    """How a small model is made.

    Attributes:
        build: takes the shape, the distribution and the number of classes.
        perturbation: of its weights.
        joint: a pixel's channels are told jointly, by mixtures of logistics alone.
        lr: with which it learns a handful of images by heart.
    """

    build: Callable[..., Any]
    perturbation: float = 0.3
    joint: bool = False
    lr: float = 3e-2

    def distribution(self, channels: int, levels: int) -> PixelDistribution:
        return DiscretizedLogisticMixture(levels, 2) if self.joint and channels > 1 else Categorical(levels)


def _gpt(shape: Any, distribution: PixelDistribution, num_classes: int | None) -> ImageGPT:
    return ImageGPT(shape, distribution, num_classes, num_layers=2, num_heads=2, width=16)


MODELS: dict[str, Small] = {
    "fvsbn": Small(FVSBN),
    "nade": Small(lambda s, d, k: NADE(s, d, 100, k)),
    "nade in chunks": Small(lambda s, d, k: NADE(s, d, 100, k, "relu", "random", chunk=3)),
    "made": Small(lambda s, d, k: MADE(s, d, (300, 200), k), 0.2),
    "made of natural order": Small(lambda s, d, k: MADE(s, d, (300, 200), k, order="natural"), 0.2),
    "made of three masks": Small(lambda s, d, k: MADE(s, d, (300, 200), k, num_masks=3, direct=True), 0.2),
    "pixel cnn": Small(lambda s, d, k: PixelCNN(s, d, 12, 2, k), lr=1e-2),
    "gated pixel cnn": Small(lambda s, d, k: GatedPixelCNN(s, d, 18, 2, k), 0.15),
    "row lstm": Small(lambda s, d, k: PixelRNN(s, d, RowLSTM, 12, 2, k), lr=2e-2),
    "row lstm of 5": Small(lambda s, d, k: PixelRNN(s, d, partial(RowLSTM, kernel_size=5), 12, 2, k), lr=2e-2),
    "diagonal bilstm": Small(lambda s, d, k: PixelRNN(s, d, DiagonalBiLSTM, 12, 2, k), lr=2e-2),
    "pixel cnn pp": Small(lambda s, d, k: PixelCNNpp(s, d, 8, 1, 3, k).eval(), 0.15, True, 1e-2),
    "pixel cnn pp of two levels": Small(lambda s, d, k: PixelCNNpp(s, d, 8, 2, 2, k).eval(), 0.15, True, 5e-3),
    "pixel cnn pp of one level": Small(lambda s, d, k: PixelCNNpp(s, d, 8, 2, 1, k).eval(), 0.15, True, 1e-2),
    "pixel cnn pp with weight norm": Small(
        lambda s, d, k: PixelCNNpp(s, d, 8, 1, 2, k, weight_norm=True).eval(), 0.3, True, 1e-2
    ),
    "pixel snail": Small(lambda s, d, k: PixelSNAIL(s, d, 8, 2, 2, 4, 6, k).eval(), 0.15, True, 1e-2),
    "pixel snail with weight norm": Small(
        lambda s, d, k: PixelSNAIL(s, d, 8, 2, 2, 4, 6, k, weight_norm=True, marked_keys=False).eval(), 0.3, True, 1e-2
    ),
    "image gpt": Small(_gpt, lr=1e-2),
}


def make(name: str, shape: tuple[int, ...], distribution: PixelDistribution, num_classes: int | None = None) -> Any:
    torch.manual_seed(0)
    return perturbed(MODELS[name].build(shape, distribution, num_classes), MODELS[name].perturbation)


def params_of(model: Any, x: Tensor, y: Tensor | None = None, mask: int = 0) -> Tensor:
    """``(B, P, C, H, W)``, of a MADE under one of its masks."""
    if isinstance(model, MADE):
        return to_image(model.params_under(mask, to_sequence(x), y), model.shape)
    params: Tensor = model(x, y)
    return params


def ranks_of(model: Any, mask: int = 0) -> Tensor:
    """When each value is generated, ``(C, H, W)``."""
    ranks = torch.arange(model.num_dims)
    if isinstance(model, MADE):
        ranks = model.ranks[mask]
    if isinstance(model, NADE):
        ranks = model.order.argsort()
    return to_image(ranks, model.shape)


def naive_sample(
    model: Any, num: int, y: Tensor | None = None, generator: Generators = None, temperature: float = 1.0
) -> Tensor:
    """A whole forward pass for every value."""
    y = model.classes(num, y, generator)
    masks = torch.zeros(num, dtype=torch.long)
    if isinstance(model, MADE):
        masks = integers(model.num_masks, num, generator, model.device)
    u = uniform((num, *model.shape), generator, model.device)
    if isinstance(model, ImageGPT):
        u = to_image(u.flatten(1), model.shape)  # one for each place of the sequence
    x = torch.full_like(u, 0.5)  # what is not drawn yet must not matter
    with torch.no_grad():
        for mask in masks.unique().tolist():
            drawn = masks == mask
            label, of_mask, ranks = None if y is None else y[drawn], x[drawn], ranks_of(model, mask)
            for rank in range(model.num_dims):
                c, i, j = (ranks == rank).nonzero()[0].tolist()
                params = params_of(model, of_mask, label, mask)[:, :, c, i, j]
                of_mask[:, c, i, j] = model.distribution.sample(params, u[drawn, c, i, j], temperature)
            x[drawn] = of_mask
    return x
