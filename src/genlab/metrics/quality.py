"""Quality and diversity of samples, from features that are already extracted."""

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
    """Compute FID, KID, inception score (if there are logits), precision, recall, density and coverage of samples.

    Raises:
        InputError: if there are too few samples or real images.
    """
    subject = FeaturesSubject(fake, real, device or torch.device("cpu"))
    measures = (FID(), KID(), InceptionScore(), PrecisionRecall(), DensityCoverage())
    return {name: result for measure in measures for name, result in measure(subject).items()}
