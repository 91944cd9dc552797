"""Sample quality during training: torchmetrics' FID, KID and IS, of samples that every process draws its share of."""

import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from genlab.metrics.features import Features
from genlab.metrics.quality import IS_SPLITS, KID_SUBSET_SIZE
from genlab.metrics.reference import Reference

KID_SUBSETS = 20  # of a figure that is looked at as a curve


class _Given(nn.Module):
    """Features go in where torchmetrics expects images; they were extracted once for all three metrics."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


class RunningQuality:
    """``fid``, ``kid`` and (where there are classes) ``inception_score``, the same on every process.

    Args:
        real: on every process the whole of it; each takes its share.
        num_samples: over all processes.
    """

    def __init__(
        self, real: Reference, num_samples: int, device: torch.device, rank: int = 0, world_size: int = 1
    ) -> None:
        share = real.features.features[rank::world_size].to(device)
        given = _Given(share.shape[1])
        self.device = device
        self.fid = FrechetInceptionDistance(given, reset_real_features=False).to(device)
        self.kid = KernelInceptionDistance(
            given,
            subsets=KID_SUBSETS,
            subset_size=min(KID_SUBSET_SIZE, num_samples, len(real)),
            reset_real_features=False,
        ).to(device)
        for metric in (self.fid, self.kid):
            metric.update(share, real=True)
        self.score: InceptionScore | None = None
        if real.features.logits is not None:
            self.score = InceptionScore(given, splits=min(IS_SPLITS, num_samples)).to(device)

    def __call__(self, fake: Features) -> dict[str, float]:
        """Of this process's share of the samples, one at least; torchmetrics gathers the others'.

        KID and IS draw from PyTorch's global generator: seed it alike on all processes, and give it back after.
        """
        features = fake.features.to(self.device)
        figures: dict[str, float] = {}
        for name, metric in (("fid", self.fid), ("kid", self.kid)):
            metric.update(features, real=False)
            value = metric.compute()
            figures[name] = float(value[0] if isinstance(value, tuple) else value)
            metric.reset()
        if self.score is not None and fake.logits is not None:
            self.score.update(fake.logits.to(self.device))
            figures["inception_score"] = float(self.score.compute()[0])
            self.score.reset()
        return figures
