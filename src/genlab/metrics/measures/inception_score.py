"""Inception score."""

from typing import TYPE_CHECKING

from genlab.metrics.figure import SAMPLES, Figure
from genlab.metrics.measures.base import FeatureMeasure
from genlab.metrics.result import Result

if TYPE_CHECKING:
    from genlab.metrics.running import RunningMetric, Share
    from genlab.metrics.subject import Subject


class InceptionScore(FeatureMeasure):
    """Inception score: the exponential of the mutual information between image and class.

    Improved Techniques for Training GANs (arXiv:1606.03498). There is no result if the extractor has no classes. The
    defaults are those of torch-fidelity.

    Args:
        splits: number of parts into which the samples are split; the score is the mean over the parts.
        rng_seed: random seed of the assignment of samples to parts.
    """

    figures = {"inception_score": Figure("inception score", "max", (*SAMPLES, "estimator"))}

    def __init__(self, splits: int = 10, rng_seed: int = 2020) -> None:
        self.splits, self.rng_seed = splits, rng_seed
        self._running: RunningMetric | None = None

    def __call__(self, subject: "Subject") -> dict[str, Result]:
        from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

        fake, _ = subject.compared
        if fake.logits is None:
            return {}
        num, classes = fake.logits.shape
        splits = min(self.splits, num)
        found = isc_features_to_metric(fake.logits, splits, True, self.rng_seed)
        biased = f"{num} samples in {splits} splits for {classes} classes: the score is biased downwards"
        result = Result(
            found[KEY_METRIC_ISC_MEAN],
            self.protocol(subject, estimator=f"mean over {splits} splits", rng_seed=self.rng_seed),
            std=found[KEY_METRIC_ISC_STD],
            warning=biased if num < 100 * classes else None,
        )
        return {"inception_score": result}

    def running(self, share: "Share") -> dict[str, float]:
        from genlab.metrics.running import running_inception_score

        if share.own.logits is None or share.real.features.logits is None:
            return {}
        if self._running is None:
            self._running = running_inception_score(share, self.splits)
        return {"inception_score": self._running(share.own.logits)}
