"""Receptive field of an autoregressive model: the values of an image on which one prediction depends."""

import copy

import torch
from torch import Tensor

from genlab.metrics.drawing import Advance, evaluating
from genlab.models.base import AutoregressiveModel


def _nothing(_: int) -> None:
    pass


def receptive_field(
    model: AutoregressiveModel,
    place: tuple[int, int, int],
    *,
    num_inputs: int = 4,
    batch_size: int = 32,
    seed: int = 0,
    advance: Advance = _nothing,
) -> Tensor:
    """Find the values on which the predicted parameters at ``place`` depend, bool ``(C, H, W)``.

    The search changes one value at a time in random images, in double precision. Gradients would not do, because none
    flow through the embedding of a level.

    Args:
        model: autoregressive model.
        place: channel, row and column of the predicted value.
        num_inputs: number of random images to try for each value before it counts as having no influence.
        batch_size: number of changed images in a batch.
        seed: random seed of the images and changes.
        advance: callback that receives the number of changed images done since its last call.

    Raises:
        InputError: if the model predicts a value in several ways, as a mixture over orders does.
    """
    model = copy.deepcopy(model).double()
    levels, D = model.distribution.levels, model.num_dims
    seen = torch.zeros(D, dtype=torch.bool)
    rank = model.orders[0].flatten().cpu()
    candidates = torch.arange(D)
    at = (slice(None), slice(None), *place)
    stream = torch.Generator().manual_seed(seed)
    # cuDNN may convolve in a transformed domain (FFT, Winograd), where rounding of a value depends on its neighbours.
    with evaluating(model), torch.backends.cudnn.flags(enabled=False):
        for k in range(num_inputs):
            y = None
            if model.num_classes is not None:
                y = torch.full((batch_size,), k % model.num_classes, device=model.device)

            def params(index: Tensor, y: Tensor | None = y) -> Tensor:
                x = (index.double() / (levels - 1)).view(-1, *model.shape).to(model.device)
                return model(x, y)[at].cpu()

            # Equal rows of a batch get bitwise equal results, so any difference is caused by the changed value.
            image = torch.randint(levels, (1, D), generator=stream).repeat(batch_size, 1)
            before = params(image)
            for changed in candidates.split(batch_size):
                moved, row = image.clone(), torch.arange(len(changed))
                shift = torch.randint(1, levels, (len(changed),), generator=stream)
                moved[row, changed] = (moved[row, changed] + shift) % levels
                seen[changed] |= (params(moved) != before).any(1)[: len(changed)]
                advance(len(changed))
            candidates = (~seen & (rank < rank.view(model.shape)[place])).nonzero().squeeze(1)
    return seen.view(model.shape)
