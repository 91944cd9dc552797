"""All images of two pixels, and their probabilities under a flow of dequantized images."""

import itertools

import torch
from torch import Tensor

from genlab.models.flow.image_flow import ImageFlow


def every_image(levels: int) -> Tensor:
    """List all images of shape (1, 1, 2), float in [0, 1], ``(levels ** 2, 1, 1, 2)``."""
    return torch.tensor(list(itertools.product(range(levels), repeat=2))).view(-1, 1, 1, 2) / (levels - 1)


def probabilities(model: ImageFlow, images: Tensor, draws: int) -> Tensor:
    """Average the density in each image's bin over the dequantization noise that ``log_prob`` draws, ``(N,)``."""
    with torch.no_grad():
        return model.log_prob(images.repeat_interleave(draws, 0)).exp().view(len(images), draws).mean(1)
