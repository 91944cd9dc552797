"""Density and coverage."""

from typing import TYPE_CHECKING

from genlab.metrics.figure import SAMPLES, Figure
from genlab.metrics.measures.base import FeatureMeasure
from genlab.metrics.result import Result

if TYPE_CHECKING:
    from genlab.metrics.subject import Subject


class DensityCoverage(FeatureMeasure):
    """Density and coverage, the robust counterparts of precision and recall.

    Reliable Fidelity and Diversity Metrics for Generative Models (arXiv:2002.09797); see :mod:`genlab.metrics.prdc`. At
    most as many real images as samples are used.

    Args:
        neighbours: k of the k-th nearest real neighbour, which defines the radius of the ball around a real image.
    """

    figures = {
        "density": Figure("density", "max", (*SAMPLES, "estimator")),
        "coverage": Figure("coverage", "max", (*SAMPLES, "estimator")),
    }

    def __init__(self, neighbours: int = 5) -> None:
        self.neighbours = neighbours

    def __call__(self, subject: "Subject") -> dict[str, Result]:
        from genlab.metrics.prdc import density_and_coverage

        samples, real = subject.matched
        density, coverage = density_and_coverage(samples, real, self.neighbours)
        protocol = self.protocol(
            subject, num_real=len(real), backend="genlab", estimator=f"{self.neighbours} nearest neighbours"
        )
        return {"density": Result(density, protocol), "coverage": Result(coverage, protocol)}
