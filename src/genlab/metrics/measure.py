"""Measuring a model: on its likelihood of the test set, and on samples drawn from it. Each result with its protocol."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from genlab.data.images import ImageDataModule
from genlab.distributions.noise import generators
from genlab.metrics.features import FeatureExtractor
from genlab.metrics.frechet import Gaussian, frechet_distance
from genlab.models.base import GenerativeModel, LikelihoodModel

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
    batch_size: int = 250,
    temperature: float = 1.0,
    advance: Advance = _nothing,
) -> Tensor:
    """The first ``num`` samples of the stream ``seed``, ``(num, *shape)`` on the CPU.

    Sample i is the same for every batch size.
    """
    drawn = []
    with evaluating(model):
        for first in range(0, num, batch_size):
            size = min(batch_size, num - first)
            streams = generators(seed, range(first, first + size))
            classes = None if y is None else y[first : first + size]
            drawn.append(model.sample(size, classes, generator=streams, temperature=temperature).cpu())
            advance(size)
    return torch.cat(drawn)


def likelihood(
    model: LikelihoodModel,
    data: ImageDataModule,
    *,
    num: int | None = None,
    seed: int,
    advance: Advance = _nothing,
) -> dict[str, Result]:
    """Negative log-likelihood of the test set, or of its first ``num`` images, in nats per image and in bits/dim."""
    log_probs: list[Tensor] = []
    with evaluating(model), own_randomness(seed, model.device):
        for x, y in data.batches("test", device=model.device):
            if num is not None:
                x, y = (part[: max(0, num - sum(map(len, log_probs)))] for part in (x, y))
            if not len(x):
                break
            log_probs.append(model.log_prob(x, y if model.num_classes is not None else None).double().cpu())
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
    result: Result = {"value": float(nll.mean()), "unit": "nats", "protocol": protocol}
    if len(nll) > 1:
        result["standard_error"] = float(nll.std() / len(nll) ** 0.5)
    bits = float(model.bits_per_dim(nll.mean()))
    return {
        "test/nll": result,
        "test/bits_per_dim": {"value": bits, "unit": "bits/dim", "protocol": protocol},
    }


class SampleQuality:
    """The Fréchet distance of samples to a split of the data; the reference is computed once.

    Args:
        data: gives the reference.
        features: see :mod:`genlab.metrics.features`.
        reference: the split.
    """

    def __init__(self, data: ImageDataModule, features: FeatureExtractor, reference: str = "train") -> None:
        self.data, self.features, self.reference = data, features, reference
        parts = [features(x) for x, _ in data.batches(reference)]  # type: ignore[arg-type]
        self.real = Gaussian.fit(torch.cat(parts))

    def __call__(self, samples: Tensor) -> float:
        """Of samples ``(N, C, H, W)`` in [0, 1]."""
        parts = [self.features(part) for part in samples.split(500)]
        return frechet_distance(Gaussian.fit(torch.cat(parts)), self.real)

    def result(self, samples: Tensor, model: GenerativeModel, *, seed: int, temperature: float = 1.0) -> Result:
        num_features = len(self.real.mean)
        protocol: dict[str, object] = {
            **self.data.protocol,
            **self.features.protocol,
            "num_features": num_features,
            "reference": self.reference,
            "num_real": self.real.num,
            "num_samples": len(samples),
            "sampler": model.sampler,
            "temperature": temperature,
            "seed": seed,
        }
        if len(samples) <= num_features:
            protocol["warning"] = f"fewer samples than the {num_features} features: biased upwards"
        return {"value": self(samples), "protocol": protocol}
