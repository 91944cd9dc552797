"""Drawing from a model, and its likelihood of the test set with its protocol."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from genlab.data.module import DataModule
from genlab.distributions.noise import generators
from genlab.models.base import GenerativeModel, ImportanceWeighted, LikelihoodModel
from genlab.models.sampling import SamplingSettings

Result = dict[str, Any]
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


def likelihood(
    model: LikelihoodModel,
    data: DataModule,
    *,
    num: int | None = None,
    seed: int,
    advance: Advance = _nothing,
) -> dict[str, Result]:
    """Negative log-likelihood of the test set, or of its first ``num`` images, in nats per image and in bits/dim.

    Of a density of real numbers, in nats alone.
    """
    log_probs: list[Tensor] = []
    with evaluating(model), own_randomness(seed, model.device):
        for x, y in _test_images(data, num, model.device):
            log_probs.append(model.log_prob(x, y).double().cpu())
            advance(len(x))
    nll = -torch.cat(log_probs)
    protocol = {
        **data.protocol,
        "split": "test",
        "num": len(nll),
        "likelihood": model.likelihood,
        "seed": seed,
    }
    if model.likelihood == "lower_bound":
        protocol["draws"] = 1
    if not model.discrete:
        protocol["of"] = "density"
    return _nll_results(model, nll, protocol, "", data.per_example("test"))


def importance_weighted(
    model: ImportanceWeighted,
    data: DataModule,
    *,
    draws: int,
    num: int | None = None,
    seed: int,
    batch_size: int = 50,
    advance: Advance = _nothing,
) -> dict[str, Result]:
    """The importance-weighted estimate of the test set's likelihood, with ``draws`` latents an image.

    It is a bound in expectation, tighter with more draws; the standard error is over images.
    """
    assert isinstance(model, LikelihoodModel)
    log_probs: list[Tensor] = []
    with evaluating(model), own_randomness(seed, model.device):
        for x, y in _test_images(data, num, model.device, batch_size):
            log_probs.append(model.importance_weighted(x, y, num_samples=draws).double().cpu())
            advance(len(x))
    protocol = {
        **data.protocol,
        "split": "test",
        "num": sum(map(len, log_probs)),
        "likelihood": "importance-weighted bound",
        "draws": draws,
        "seed": seed,
    }
    return _nll_results(model, -torch.cat(log_probs), protocol, "_iw", {})


def _test_images(
    data: DataModule, num: int | None, device: torch.device, batch_size: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the test split's first ``num`` images."""
    left = len(data.splits["test"]) if num is None else num
    for x, y in data.batches("test", device=device, batch_size=batch_size):
        if left <= 0:
            return
        yield x[:left], y[:left]
        left -= len(x)


def _nll_results(
    model: LikelihoodModel, nll: Tensor, protocol: dict[str, object], suffix: str, per_example: Mapping[str, float]
) -> dict[str, Result]:
    """Figures of the nats of examples ``(N,)``; of text by token, character and byte."""
    figures = [("nll", nll, "nats")]
    if per_example:
        units = {"nats_per_token": "nats/token", "bits_per_char": "bits/character", "bits_per_byte": "bits/byte"}
        figures += [(name, nll / divisor, units[name]) for name, divisor in per_example.items()]
    elif model.discrete:
        figures.append(("bits_per_dim", model.bits_per_dim(nll), "bits/dim"))
    results: dict[str, Result] = {}
    for name, values, unit in figures:
        result: Result = {"value": float(values.mean()), "unit": unit, "protocol": protocol}
        if len(values) > 1:
            result["standard_error"] = float(values.std() / len(values) ** 0.5)
        results[f"test/{name}{suffix}"] = result
    if "nats_per_token" in per_example:
        nats = results[f"test/nats_per_token{suffix}"]["value"]
        results[f"test/perplexity{suffix}"] = {"value": math.exp(nats), "unit": "tokens", "protocol": protocol}
    return results
