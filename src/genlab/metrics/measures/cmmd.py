"""Maximum mean discrepancy of CLIP's embeddings."""

from typing import TYPE_CHECKING

from genlab.errors import InputError
from genlab.metrics.figure import SAMPLES, Figure
from genlab.metrics.measures.base import FeatureMeasure
from genlab.metrics.result import Result

if TYPE_CHECKING:
    from genlab.metrics.subject import Subject


class CMMD(FeatureMeasure):
    """Squared maximum mean discrepancy (MMD) with a Gaussian kernel, times 1,000, of CLIP's embeddings.

    Rethinking FID: Towards a Better Evaluation Metric for Image Generation (arXiv:2401.09603). The estimator is that of
    the authors' code: the biased one, of least variance, in which an image is also compared with itself, so that the
    value is never below 0, and that of few images is too large. All samples and all real images are compared. The
    measure is meant for ``metrics.features=clip``, whose embeddings have length 1; a warning says if there are others.

    Args:
        sigma: width of the kernel exp(-|x - y|² / (2 sigma²)).
        scale: factor of the value.

    Raises:
        InputError: if the width is not above 0.
    """

    figures = {"cmmd": Figure("CMMD", "min", (*SAMPLES, "estimator"))}

    def __init__(self, sigma: float = 10.0, scale: float = 1000.0) -> None:
        if sigma <= 0:
            raise InputError(f"CMMD: sigma={sigma}: the width of the kernel is above 0")
        self.sigma, self.scale = sigma, scale

    def __call__(self, subject: "Subject") -> dict[str, Result]:
        from genlab.metrics.mmd import gaussian_mmd

        fake, real = subject.compared
        samples, images = fake.features.to(subject.device), real.features.features.to(subject.device)
        estimator = f"MMD, Gaussian kernel, sigma {self.sigma:g}, biased, times {self.scale:g}"
        protocol = self.protocol(subject, backend="genlab", estimator=estimator)
        name = str(protocol.get("features"))
        warning = None if name.startswith("clip") else f"CMMD is defined on CLIP's embeddings, not on {name}"
        return {"cmmd": Result(self.scale * gaussian_mmd(samples, images, self.sigma), protocol, warning=warning)}
