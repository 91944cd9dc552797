"""Kernel inception distance."""

from typing import TYPE_CHECKING

from genlab.metrics.figure import SAMPLES, Figure
from genlab.metrics.measures.base import FeatureMeasure
from genlab.metrics.result import Result

if TYPE_CHECKING:
    from genlab.metrics.running import RunningMetric, Share
    from genlab.metrics.subject import Subject


class KID(FeatureMeasure):
    """Squared maximum mean discrepancy (MMD) of features with a cubic kernel: Demystifying MMD GANs (arXiv:1801.01401).

    The estimator is unbiased, so its value can be negative. The defaults are those of torch-fidelity, whose command
    line gives the same value.

    Args:
        subsets: number of random subsets over which the distance is averaged.
        subset_size: number of images in a subset, for samples and real images alike; at most the number available.
        running_subsets: number of subsets during training, where the value is only plotted as a curve.
        rng_seed: random seed of the subsets.
    """

    figures = {"kid": Figure("KID", "min", (*SAMPLES, "estimator"))}

    def __init__(
        self, subsets: int = 100, subset_size: int = 1000, running_subsets: int = 20, rng_seed: int = 2020
    ) -> None:
        self.subsets, self.subset_size, self.running_subsets = subsets, subset_size, running_subsets
        self.rng_seed = rng_seed
        self._running: RunningMetric | None = None

    def __call__(self, subject: "Subject") -> dict[str, Result]:
        from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

        fake, real = subject.compared
        fewest = min(len(fake), len(real))
        size = min(self.subset_size, fewest)
        found = kid_features_to_metric(
            # In float64: the cubes of large features hide small differences between them from float32.
            fake.features.double(),
            real.features.features.double(),
            kid_subsets=self.subsets,
            kid_subset_size=size,
            rng_seed=self.rng_seed,
            verbose=False,
        )
        estimator = f"MMD, cubic kernel, {self.subsets} subsets of {size}"
        result = Result(
            found[KEY_METRIC_KID_MEAN],
            self.protocol(subject, estimator=estimator, rng_seed=self.rng_seed),
            # If a subset is the whole set, all subsets are equal and their spread is meaningless.
            std=found[KEY_METRIC_KID_STD] if size < fewest else None,
            warning=f"subsets of {size} for want of images, not of {self.subset_size}"
            if size < self.subset_size
            else None,
        )
        return {"kid": result}

    def running(self, share: "Share") -> dict[str, float]:
        from genlab.metrics.running import running_kid

        if self._running is None:
            self._running = running_kid(share, self.running_subsets, self.subset_size)
        return {"kid": self._running(share.own.features.double(), real=False)}
