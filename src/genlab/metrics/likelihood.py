"""Log-likelihoods of the test set, example by example."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from genlab.data.module import DataModule
from genlab.metrics.measure import Advance, evaluating, own_randomness
from genlab.metrics.result import Result
from genlab.models.base import GenerativeModel, ImportanceWeighted, LikelihoodModel


def negative_log_likelihoods(
    model: LikelihoodModel, data: DataModule, *, num: int, seed: int, advance: Advance
) -> Tensor:
    """Nats of the first ``num`` examples of the test set, float64 ``(num,)``, each given its class where it has one.

    Args:
        seed: random seed of a bound's draws.
        advance: called with the number of examples done since the last call.
    """
    log_probs: list[Tensor] = []
    with evaluating(model), own_randomness(seed, model.device):
        for x, y in _test_examples(data, num, model.device):
            log_probs.append(model.log_prob(x, y).double().cpu())
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
    """Upper bounds in nats on the first ``num`` examples of the test set, from ``draws`` latents each, ``(num,)``.

    In expectation they are bounds, tighter with more draws.
    """
    assert isinstance(model, GenerativeModel)
    log_probs: list[Tensor] = []
    with evaluating(model), own_randomness(seed, model.device):
        for x, y in _test_examples(data, num, model.device, batch_size):
            log_probs.append(model.importance_weighted(x, y, num_samples=draws).double().cpu())
            advance(len(x))
    return -torch.cat(log_probs)


def _test_examples(
    data: DataModule, num: int, device: torch.device, batch_size: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the test split's first ``num`` examples."""
    left = num
    for x, y in data.batches("test", device=device, batch_size=batch_size):
        if left <= 0:
            return
        yield x[:left], y[:left]
        left -= len(x)


def mean_of(values: Tensor, protocol: Mapping[str, object], unit: str | None) -> Result:
    """The mean over examples ``(N,)``, with its standard error where there are several."""
    error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
    return Result(float(values.mean()), protocol, unit=unit, standard_error=error)
