"""Statistics of batch normalization computed anew, from samples of the weights that are measured.

The running statistics of a generator are those of its latest weights in training. Averaged weights have other features,
and some authors measure theirs with statistics of their own.
"""

from copy import deepcopy

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from genlab.distributions.noise import generators, mix
from genlab.models.base import GenerativeModel


def batch_norms(model: GenerativeModel) -> list[_BatchNorm]:
    """List the layers of batch normalization with running statistics, without those that only training uses."""
    return [
        layer
        for name, part in model.named_children()
        if name not in model.training_only
        for layer in part.modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    ]


def with_own_statistics(model: GenerativeModel, num: int, seed: int, batch_size: int = 250) -> GenerativeModel:
    """Copy a model, with statistics of batch normalization that are the mean over batches of its own samples.

    Args:
        model: model to copy; it is left as it is.
        num: number of samples, drawn under the model's own sampling settings.
        seed: random seed; the samples are others than those that are drawn with it.
        batch_size: number of samples in a batch.
    """
    copied = deepcopy(model).eval()
    layers = batch_norms(copied)
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches
        layer.train()
    # In whole batches, for each counts the same in the mean.
    batches = max(1, round(num / batch_size))
    size = num // batches
    with torch.no_grad(), torch.autocast(copied.device.type, enabled=False):
        for first in range(0, batches * size, size):
            copied.sample(size, generator=generators(mix(seed, 1), range(first, first + size)))
    for layer, own in zip(layers, batch_norms(model), strict=True):
        if not layer.num_batches_tracked:  # not a part of sampling, such as an encoder
            layer.load_state_dict(own.state_dict())
    return copied.eval()
