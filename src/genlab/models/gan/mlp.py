"""GAN of two fully connected networks, for points in the plane and small images."""

import itertools
import math
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.layers.packing import packed
from genlab.layers.spectral import spectrally_normalized
from genlab.models.adversarial import AdversarialModel, given


class MLP(AdversarialModel):
    """GAN of multilayer perceptrons: Generative Adversarial Networks (arXiv:1406.2661).

    As in the paper, the discriminator has maxout units (Maxout Networks, arXiv:1302.4389). The defaults are the
    networks that ALI (arXiv:1606.00704), VEEGAN and PacGAN (arXiv:1712.04086) use on points in the plane. The layers
    that output and read coordinates always compute in float32, because bfloat16 would place points on a grid of 1/128.

    Args:
        shape: shape of an example; images are the output of a sigmoid, points are unbounded.
        num_classes: number of classes, which the networks see as one-hot vectors; None for an unconditional model.
        latent_dim: number of dimensions of z ~ N(0, I).
        width: number of features of the generator's hidden layers.
        num_layers: number of the generator's hidden layers.
        batch_norm: whether batch normalization follows each of the generator's hidden layers.
        discriminator_width: number of features of the discriminator's hidden layers.
        discriminator_layers: number of the discriminator's hidden layers.
        pieces: number of linear functions over which a maxout unit takes the maximum; 1 for leaky ReLU instead.
        normalization: normalization of the discriminator's weights.
        pack: number of examples that the discriminator judges together.
        std: standard deviation of the initial weights; None for PyTorch's default initialization.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"points", "image", "binary"})

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int | None = None,
        latent_dim: int = 2,
        width: int = 400,
        num_layers: int = 4,
        batch_norm: bool = True,
        discriminator_width: int = 200,
        discriminator_layers: int = 3,
        pieces: int = 5,
        normalization: Literal["none", "spectral"] = "none",
        pack: int = 1,
        std: NonNegativeFloat | None = 0.02,
    ) -> None:
        super().__init__(shape, num_classes, pack)
        sizes = (latent_dim, width, num_layers, discriminator_width, discriminator_layers, pieces)
        if min(sizes) < 1:
            raise InputError(
                "latent_dim, width, num_layers, discriminator_width, discriminator_layers and pieces are "
                f"{', '.join(map(str, sizes))}: at least 1 of each"
            )
        self.latent_dim = latent_dim
        one_hot = num_classes or 0
        self.generator = Generator(shape, one_hot, [latent_dim + one_hot, *[width] * num_layers], batch_norm)
        inputs = pack * (math.prod(shape) + one_hot)
        hidden = [discriminator_width] * discriminator_layers
        self.discriminator = Discriminator(one_hot, [inputs, *hidden], pieces, pack)
        if std is not None:
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=std)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
        if normalization == "spectral":
            spectrally_normalized(self.discriminator)


class Generator(nn.Module):
    """Network from z ``(B, latent_dim)`` to examples ``(B, *shape)``."""

    def __init__(self, shape: tuple[int, ...], one_hot: int, widths: list[int], batch_norm: bool) -> None:
        super().__init__()
        self.shape, self.one_hot = shape, one_hot
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            # Batch normalization has its own shift, so no bias is needed.
            layers.append(nn.Linear(inputs, outputs, bias=not batch_norm))
            layers += [nn.BatchNorm1d(outputs)] * batch_norm + [nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(widths[-1], math.prod(shape))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.layers(_with_class(z, y, self.one_hot))
        with torch.autocast(z.device.type, enabled=False):
            x = self.last(h.to(self.last.weight.dtype))
        return torch.sigmoid(x).view(-1, *self.shape) if len(self.shape) == 3 else x


class Discriminator(nn.Module):
    """Network from examples ``(B, *shape)`` to logits ``(B / pack,)``, one for every ``pack`` examples."""

    def __init__(self, one_hot: int, widths: list[int], pieces: int, pack: int) -> None:
        super().__init__()
        self.one_hot, self.pack = one_hot, pack
        hidden = [
            nn.Sequential(nn.Linear(inputs, outputs * pieces), Maxout(pieces) if pieces > 1 else nn.LeakyReLU(0.2))
            for inputs, outputs in itertools.pairwise(widths)
        ]
        self.first, self.layers = hidden[0], nn.Sequential(*hidden[1:], nn.Linear(widths[-1], 1))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = _with_class(x.flatten(1), y, self.one_hot)
            h = self.first(packed(x, self.pack).to(next(self.first.parameters()).dtype))
        return self.layers(h).squeeze(1)


class Maxout(nn.Module):
    """Maxout unit: the elementwise maximum of ``pieces`` vectors, ``(B, pieces * D)`` to ``(B, D)``."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, h: Tensor) -> Tensor:
        # max instead of amax: its gradient goes to one piece by index, while amax compares values and splits ties.
        return h.view(len(h), self.pieces, -1).max(1).values


def _with_class(h: Tensor, y: Tensor | None, num_classes: int) -> Tensor:
    if not num_classes:
        return h
    return torch.cat([h, nn.functional.one_hot(given(y), num_classes).to(h.dtype)], 1)
