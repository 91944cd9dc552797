"""Test for copies of training images among samples."""

from typing import TYPE_CHECKING

from genlab.metrics.figure import Figure
from genlab.metrics.measures.base import FeatureMeasure
from genlab.metrics.result import Result

if TYPE_CHECKING:
    from genlab.metrics.subject import Subject


class TooNearToTrain(FeatureMeasure):
    """Share of samples that are nearer to a training image than 99 % of the test images are.

    The result also has the statistic z of A Non-Parametric Test to Detect Data-Copying (arXiv:2004.05675); see
    :mod:`genlab.metrics.memorization`. Skipped with ``metrics.memorization=false``.
    """

    figures = {"too_near_to_train": Figure("too near to train", "min")}

    def applies(self, subject: "Subject") -> bool:
        return super().applies(subject) and subject.memorization

    def __call__(self, subject: "Subject") -> dict[str, Result]:
        from genlab.metrics.memorization import Memorization, nearest

        fake, _ = subject.compared
        train, held_out = subject.reference("train"), subject.reference("test")
        keys = train.features.features.to(subject.device)
        of_samples, _ = subject.neighbours
        of_held_out, _ = nearest(held_out.features.features.to(subject.device), keys)
        test = Memorization.test(of_samples[:, 0].cpu(), of_held_out[:, 0].cpu())
        nearer = f"share of samples nearer to a training image than {1 - test.quantile:.0%} of test images are"
        protocol = {
            **train.protocol,
            "backend": "genlab",
            "estimator": nearer,
            "num_samples": len(fake),
            "num_held_out": len(held_out),
        }
        warning = "most samples lie nearer to training images than test images do: look at neighbours.png"
        result = Result(
            test.too_near,
            protocol,
            warning=warning if test.too_near > 0.5 else None,
            extra={"expected": test.quantile, "z": test.z},
            keys=("value", "expected", "z"),
        )
        return {"too_near_to_train": result}
