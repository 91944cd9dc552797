"""Images of spaces small enough to list, and models with weights that matter."""

import itertools
import math
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def perturbed(model: M, by: float = 0.3) -> M:
    """Far from its initialisation: masked weights and biases of classes are moved too."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by * torch.randn_like(parameter)
    return model


def random_images(num: int, shape: tuple[int, ...], levels: int, seed: int = 0) -> Tensor:
    return torch.randint(levels, (num, *shape), generator=torch.Generator().manual_seed(seed)) / (levels - 1)


def all_images(shape: tuple[int, ...], levels: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(levels), repeat=math.prod(shape)))).view(-1, *shape) / (levels - 1)
