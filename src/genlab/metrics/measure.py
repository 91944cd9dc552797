"""Drawing from a model, and what surrounds every measurement: evaluation mode, randomness of its own."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from genlab.distributions.noise import generators
from genlab.models.base import GenerativeModel, LikelihoodModel
from genlab.models.sampling import SamplingSettings

Advance = Callable[[int], None]


def _nothing(_: int) -> None:
    pass


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's generators inside, and give them back as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients and no autocast inside."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        model.train(training)


def draw(
    model: GenerativeModel,
    num: int,
    *,
    seed: int,
    y: Tensor | None = None,
    indices: Sequence[int] | None = None,
    batch_size: int = 250,
    sampling: SamplingSettings | None = None,
    decode: Callable[[Tensor], Tensor] | None = None,
    advance: Advance = _nothing,
) -> Tensor:
    """The first ``num`` samples of the stream ``seed``, or those of ``indices``, ``(num, *shape)`` on the CPU.

    Sample i is the same for every batch size.

    Args:
        sampling: settings of sampling; the model's own where left out.
        decode: what is done to a batch of them, as :meth:`~genlab.data.module.DataModule.decode`.
    """
    drawn = []
    with evaluating(model):
        for first in range(0, num, batch_size):
            size = min(batch_size, num - first)
            streams = generators(seed, (range(num) if indices is None else indices)[first : first + size])
            classes = None if y is None else y[first : first + size]
            samples = model.sample(size, classes, generator=streams, sampling=sampling)
            drawn.append((samples if decode is None else decode(samples)).cpu())
            advance(size)
    return torch.cat(drawn)


def marginal_log_prob(model: LikelihoodModel, x: Tensor) -> Tensor:
    """Nats of examples ``(B,)`` whose classes are not known: of a class-conditional model, all are equally likely."""
    if model.num_classes is None:
        return model.log_prob(x)
    of_classes = [model.log_prob(x, torch.full((len(x),), k, device=x.device)) for k in range(model.num_classes)]
    return torch.stack(of_classes).logsumexp(0) - math.log(model.num_classes)


def density_in_plane(model: GenerativeModel) -> Callable[[Tensor], Tensor] | None:
    """Of a model with a density of the plane, points ``(B, 2)`` on any device to log p(x) in nats, ``(B,)``.

    A class-conditional model's is that of equally likely classes, as they are sampled. ``None`` for other models.
    """
    if not isinstance(model, LikelihoodModel) or model.discrete or model.shape != (2,):
        return None

    def log_density(x: Tensor) -> Tensor:
        with evaluating(model):
            return marginal_log_prob(model, x.to(model.device))

    return log_density
