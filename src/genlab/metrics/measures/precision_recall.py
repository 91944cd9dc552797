"""Precision and recall."""

from typing import TYPE_CHECKING

from genlab.metrics.figure import SAMPLES, Figure
from genlab.metrics.measures.base import FeatureMeasure
from genlab.metrics.result import Result

if TYPE_CHECKING:
    from genlab.metrics.subject import Subject


class PrecisionRecall(FeatureMeasure):
    """Precision and recall: the shares of samples in the manifold of real images, and of real images in the samples'.

    Improved Precision and Recall Metric for Assessing Generative Models (arXiv:1904.06991). At most as many real
    images as samples are used.

    Args:
        neighbours: k of the k-th nearest neighbour, which defines the radius of the ball around a point.
    """

    figures = {
        "precision": Figure("precision", "max", (*SAMPLES, "estimator"), column=7),
        "recall": Figure("recall", "max", (*SAMPLES, "estimator"), column=8),
    }

    def __init__(self, neighbours: int = 3) -> None:
        self.neighbours = neighbours

    def __call__(self, subject: "Subject") -> dict[str, Result]:
        from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

        from genlab.metrics.distances import centred, rows_at_once

        samples, real = subject.matched
        found = prc_features_to_metric(
            *centred(samples, real),  # torch-fidelity computes distances by matrix products
            prc_neighborhood=self.neighbours,
            prc_batch_size=rows_at_once(4 * len(samples)),  # rows of distances, of which it holds several copies
            save_cpu_ram=True,
            verbose=False,
        )
        protocol = self.protocol(subject, num_real=len(real), estimator=f"{self.neighbours} nearest neighbours")
        return {
            "precision": Result(found[KEY_METRIC_PRECISION], protocol),
            "recall": Result(found[KEY_METRIC_RECALL], protocol),
        }
