"""Sampling from a model, and the context of every measurement: evaluation mode and separate randomness."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from genlab.distributions.noise import generators
from genlab.machine.memory import check_fits
from genlab.metrics.activations import FEW, samples_at_once
from genlab.models.abilities import CountsEvaluations
from genlab.models.base import GenerativeModel, LikelihoodModel
from genlab.models.sampling import SamplingSettings, Tally

BATCH = 250  # samples of one call of a model: the sums of some models depend on it in the last digits

Advance = Callable[[int], None]


def _nothing(_: int) -> None:
    pass


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's generators inside the context and restore their states afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode, without gradients or autocast, inside the context.

    Modules that were in training mode return to it; those that were not, such as frozen ones, are left alone.
    """
    training = [module for module in model.modules() if module.training]
    _set_training(training, False)
    device = next(model.parameters()).device
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        _set_training(training, True)


def _set_training(modules: Iterable[torch.nn.Module], mode: bool) -> None:
    for module in modules:
        # Not by assignment: Module looks whether the value is a parameter, a buffer or a module, which takes longer
        # for all modules of a small model than drawing from it.
        vars(module)["training"] = mode


def bytes_of(num: int, model: GenerativeModel) -> int:
    """Estimate the memory that samples take: twice as float32 when their batches are joined, and once as a picture."""
    return 3 * 4 * num * model.num_dims


def draw(
    model: GenerativeModel,
    num: int,
    *,
    seed: int,
    y: Tensor | None = None,
    indices: Sequence[int] | None = None,
    batch_size: int = BATCH,
    sampling: SamplingSettings | None = None,
    decode: Callable[[Tensor], Tensor] | None = None,
    advance: Advance = _nothing,
) -> Tensor:
    """Draw samples ``(num, *shape)``, on the CPU.

    Sample i depends on the seed and i only, not on the batch size. A batch that would take too much memory is drawn in
    parts.

    Args:
        model: model to sample from.
        num: number of samples.
        seed: random seed of the samples.
        y: class of each sample, ``(num,)``; None leaves the classes to the model.
        indices: indices i of the samples to draw; None for the first ``num``.
        batch_size: largest number of samples in a batch.
        sampling: sampling settings; None for the model's own.
        decode: function applied to every batch, such as :meth:`~genlab.data.module.DataModule.decode`.
        advance: callback that receives the number of samples done since its last call.

    Raises:
        InputError: if the samples do not fit in memory.
    """
    check_fits(bytes_of(num, model), f"{num} samples are too many; draw fewer at a time")
    drawn = []
    chosen = range(num) if indices is None else indices

    def sample(part: slice) -> Tensor:
        classes = None if y is None else y[part]
        streams = generators(seed, chosen[part])
        return model.sample(len(streams), classes, generator=streams, sampling=sampling)

    with evaluating(model):
        size = batch_size
        if num >= batch_size > FEW:
            size = samples_at_once(model, repr(sampling or model.sampling), batch_size, lambda few: sample(slice(few)))
        if isinstance(model, CountsEvaluations):
            model.tally = Tally()  # of these samples
        for first in range(0, num, batch_size):
            last = min(first + batch_size, num)
            for start in range(first, last, size):
                samples = sample(slice(start, min(start + size, last)))
                drawn.append((samples if decode is None else decode(samples)).cpu())
                advance(len(samples))
    return torch.cat(drawn)


def marginal_log_prob(model: LikelihoodModel, x: Tensor) -> Tensor:
    """Compute log p(x) in nats, ``(B,)``; for a class-conditional model, all classes are equally likely."""
    if model.num_classes is None:
        return model.log_prob(x)
    of_classes = [model.log_prob(x, torch.full((len(x),), k, device=x.device)) for k in range(model.num_classes)]
    return torch.stack(of_classes).logsumexp(0) - math.log(model.num_classes)


def density_in_plane(model: GenerativeModel) -> Callable[[Tensor], Tensor] | None:
    """Return a function from points ``(B, 2)``, on any device, to their log-density in nats, ``(B,)``.

    For a class-conditional model, all classes are equally likely, as in sampling.

    Returns:
        The function, or None if the model has no density in the plane.
    """
    if not isinstance(model, LikelihoodModel) or model.discrete or model.shape != (2,):
        return None

    def log_density(x: Tensor) -> Tensor:
        with evaluating(model):
            return marginal_log_prob(model, x.to(model.device))

    return log_density
