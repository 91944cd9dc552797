"""Log-likelihoods of the test set, example by example."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from genlab.data.module import DataModule
from genlab.metrics.drawing import Advance, evaluating, own_randomness
from genlab.metrics.result import Result
from genlab.models.abilities import ImportanceWeighted
from genlab.models.base import GenerativeModel, LikelihoodModel


def negative_log_likelihoods(
    model: LikelihoodModel, data: DataModule, *, num: int, seed: int, advance: Advance
) -> Tensor:
    """Compute the negative log-likelihoods of the first ``num`` test examples in nats, float64 ``(num,)``.

    A class-conditional model is given the class of each example.

    Args:
        model: model with a likelihood.
        data: data of the model.
        num: number of test examples.
        seed: random seed of the draws in a likelihood bound.
        advance: callback that receives the number of examples done since its last call.
    """
    log_probs: list[Tensor] = []
    with evaluating(model), own_randomness(seed, model.device):
        for x, y in _test_examples(data, num, model.device):
            log_probs.append(model.log_prob(x, y).cpu().double())
            advance(len(x))
    return -torch.cat(log_probs)


def importance_weighted_bounds(
    model: ImportanceWeighted,
    data: DataModule,
    *,
    draws: int,
    num: int,
    seed: int,
    advance: Advance,
    batch_size: int = 50,
) -> Tensor:
    """Compute importance-weighted bounds on the negative log-likelihoods of test examples in nats, ``(num,)``.

    They are upper bounds in expectation, tighter with more draws.

    Args:
        model: latent-variable model.
        data: data of the model.
        draws: number of latents drawn per example.
        num: number of test examples, the first ones of the test set.
        seed: random seed of the latents.
        advance: callback that receives the number of examples done since its last call.
        batch_size: number of examples in a batch.
    """
    assert isinstance(model, GenerativeModel)
    log_probs: list[Tensor] = []
    with evaluating(model), own_randomness(seed, model.device):
        for x, y in _test_examples(data, num, model.device, batch_size):
            log_probs.append(model.importance_weighted(x, y, num_samples=draws).cpu().double())
            advance(len(x))
    return -torch.cat(log_probs)


def _test_examples(
    data: DataModule, num: int, device: torch.device, batch_size: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate over batches of the first ``num`` test examples."""
    left = num
    for x, y in data.batches("test", device=device, batch_size=batch_size):
        if left <= 0:
            return
        yield x[:left], y[:left]
        left -= len(x)


def mean_of(values: Tensor, protocol: Mapping[str, object], unit: str | None) -> Result:
    """Average values ``(N,)`` over examples, with the standard error of the mean if there are at least two."""
    error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
    return Result(float(values.mean()), protocol, unit=unit, standard_error=error)
