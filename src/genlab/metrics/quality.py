"""How good and how varied samples are, of features that are there already."""

import torch

from genlab.metrics.features import Features
from genlab.metrics.measures.density_coverage import DensityCoverage
from genlab.metrics.measures.fid import FID
from genlab.metrics.measures.inception_score import InceptionScore
from genlab.metrics.measures.kid import KID
from genlab.metrics.measures.precision_recall import PrecisionRecall
from genlab.metrics.reference import Reference
from genlab.metrics.result import Result
from genlab.metrics.subject import FeaturesSubject


def sample_quality(fake: Features, real: Reference, device: torch.device | None = None) -> dict[str, Result]:
    """FID, KID, inception score (where there are logits), precision and recall, density and coverage of samples.

    Raises:
        InputError: where there are too few images for any of them.
    """
    subject = FeaturesSubject(fake, real, device or torch.device("cpu"))
    measures = (FID(), KID(), InceptionScore(), PrecisionRecall(), DensityCoverage())
    return {name: result for measure in measures for name, result in measure(subject).items()}
