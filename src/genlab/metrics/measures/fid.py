"""Fréchet inception distance."""

from typing import TYPE_CHECKING

from genlab.metrics.figure import Figure
from genlab.metrics.measures.base import FeatureMeasure
from genlab.metrics.result import Result

if TYPE_CHECKING:
    from genlab.metrics.running import RunningMetric, Share
    from genlab.metrics.subject import Subject


class FID(FeatureMeasure):
    """Fréchet distance between Gaussians fitted to the features of samples and of real images.

    GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (arXiv:1706.08500). Computed in
    float64, since a float32 mean over many features loses the sixth digit.
    """

    figures = {"fid": Figure("FID", "min", column=6, curve=3, live=True)}

    def __init__(self) -> None:
        self._running: RunningMetric | None = None

    def __call__(self, subject: "Subject") -> dict[str, Result]:
        from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

        fake, real = subject.compared
        statistics = [fid_features_to_statistics(f.double()) for f in (fake.features, real.features.features)]
        value = fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]
        fewest, d = min(len(fake), len(real)), fake.features.shape[1]
        biased = f"{fewest} images for {d} features: the FID is biased upwards" if fewest <= d else None
        protocol = self.protocol(subject, estimator="Fréchet distance")
        return {"fid": Result(max(0.0, value), protocol, warning=biased)}

    def running(self, share: "Share") -> dict[str, float]:
        from genlab.metrics.running import running_fid

        if self._running is None:
            self._running = running_fid(share)
        return {"fid": self._running(share.own.features, real=False)}
