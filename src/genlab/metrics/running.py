"""Measuring during training: samples shared among processes, and the FID, KID and inception score of torchmetrics."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from genlab.data.module import DataModule
from genlab.errors import InputError
from genlab.metrics.features import FeatureExtractor, Features, extract
from genlab.metrics.measures.base import Need
from genlab.metrics.modes import Modes
from genlab.metrics.reference import Reference
from genlab.metrics.subject import Subject
from genlab.modalities.image import to_uint8


class Share(Subject):
    """Samples drawn by one process during training, with access to those of all processes.

    ``samples`` and ``features`` hold those of all processes and are equal on each process; ``own`` holds the features
    of this process's samples.

    Args:
        drawn: samples of this process, at least one.
        num_samples: total number of samples over all processes.
        extractor: feature extractor; None if no features are compared.
        real: features of all the real images, the same on every process; None if no features are compared.
        modes: counter of modes; None if the modes cannot be counted.
        data: data of the model, which defines how samples are converted for the extractor; None for images.
        device: device that distances are computed on.
        gather: function that concatenates the rows of all processes, in the order of their ranks.
        rank: rank of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        drawn: Tensor,
        num_samples: int,
        *,
        extractor: FeatureExtractor | None,
        real: Reference | None,
        modes: Modes | None = None,
        data: DataModule | None = None,
        device: torch.device,
        gather: Callable[[Tensor], Tensor] = lambda rows: rows,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.drawn, self.num_samples, self.extractor, self.reference_features = drawn, num_samples, extractor, real
        self.modes, self.data, self.device, self.gather = modes, data, device, gather
        self.rank, self.world_size = rank, world_size

    @property
    def provides(self) -> frozenset[Need]:
        found: tuple[Need, ...] = ("samples",) if self.extractor is None else ("samples", "features")
        return frozenset(found)

    @cached_property
    def samples(self) -> Tensor:
        return self.gather(self.drawn)

    @cached_property
    def own(self) -> Features:
        """Features of this process's samples."""
        if self.extractor is None:
            raise InputError("metrics.features=null: there is nothing to compare samples by")
        view = to_uint8 if self.data is None else self.data.pictured.modality.features_view
        return extract(self.extractor, [self.drawn], self.device, view=view)

    @cached_property
    def features(self) -> Features:
        logits = None if self.own.logits is None else self.gather(self.own.logits)
        return Features(self.gather(self.own.features), logits)

    @property
    def real(self) -> Reference:
        if self.reference_features is None:
            raise InputError("metrics.features=null: there is nothing to compare samples by")
        return self.reference_features


class _Given(nn.Module):
    """Identity network that lets torchmetrics take features instead of images; they are extracted once for all."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


class RunningMetric:
    """A torchmetrics metric that is computed from scratch on every set of samples, across all processes.

    KID and inception score draw from PyTorch's global generator: seed it equally on all processes, and restore it
    afterwards.
    """

    def __init__(self, metric: Metric, device: torch.device) -> None:
        self.metric, self.device = metric.to(device), device

    def __call__(self, rows: Tensor, **kind: Any) -> float:
        """Compute the metric over the rows of all processes; each process passes its own rows."""
        self.metric.update(rows.to(self.device), **kind)
        value = self.metric.compute()
        self.metric.reset()
        return float(value[0] if isinstance(value, tuple) else value)


def running_fid(share: Share) -> RunningMetric:
    """Build the FID against the real images, which are split among the processes."""
    part = _real_part(share)
    metric = RunningMetric(FrechetInceptionDistance(_Given(part.shape[1]), reset_real_features=False), share.device)
    metric.metric.update(part, real=True)
    return metric


def running_kid(share: Share, subsets: int, subset_size: int) -> RunningMetric:
    """Build the KID against the real images, which are split among the processes, for features in float64."""
    part = _real_part(share).double()
    size = min(subset_size, share.num_samples, len(share.real))
    metric = RunningMetric(
        KernelInceptionDistance(_Given(part.shape[1]), subsets=subsets, subset_size=size, reset_real_features=False),
        share.device,
    )
    metric.metric.update(part, real=True)
    return metric


def running_inception_score(share: Share, splits: int) -> RunningMetric:
    """Build the inception score, computed from logits."""
    given = _Given(share.real.features.features.shape[1])
    return RunningMetric(InceptionScore(given, splits=min(splits, share.num_samples)), share.device)


def _real_part(share: Share) -> Tensor:
    return share.real.features.features[share.rank :: share.world_size].to(share.device)
