"""Which values of an image a model's prediction of one of them depends on."""

import copy

import torch
from torch import Tensor

from genlab.metrics.measure import Advance, evaluating
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
    """The values that the parameters at ``place`` change with, bool ``(C, H, W)``.

    Found by changing one value at a time in images of random levels, in double precision. A gradient would not do:
    there is none through the embedding of a level.

    Args:
        place: channel, row and column.
        num_inputs: random images that a value has not changed anything in before it counts as unseen.

    Raises:
        InputError: the model has several parameters of a value, as a mixture of orders.
    """
    model = copy.deepcopy(model).double()
    levels, D = model.distribution.levels, model.num_dims
    seen = torch.zeros(D, dtype=torch.bool)
    rank = model.orders[0].flatten().cpu()
    candidates = torch.arange(D)
    at = (slice(None), slice(None), *place)
    stream = torch.Generator().manual_seed(seed)
    # cuDNN may multiply in another domain, where every value is rounded by those beside it.
    with evaluating(model), torch.backends.cudnn.flags(enabled=False):
        for k in range(num_inputs):
            y = None
            if model.num_classes is not None:
                y = torch.full((batch_size,), k % model.num_classes, device=model.device)

            def params(index: Tensor, y: Tensor | None = y) -> Tensor:
                x = (index.double() / (levels - 1)).view(-1, *model.shape).to(model.device)
                return model(x, y)[at].cpu()

            # Rows of equal batches are computed alike to the last bit, so that any difference comes from the change.
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
