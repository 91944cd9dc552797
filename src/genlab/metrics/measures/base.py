"""The interface of a measure."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from genlab.metrics.figure import Figure
from genlab.metrics.result import Result

if TYPE_CHECKING:
    from genlab.metrics.running import Share
    from genlab.metrics.subject import Subject

Need = Literal["samples", "features", "likelihood", "latents"]


class Measure(ABC):
    """A measure of a model, or of a set of images, that computes one or more figures.

    A subclass sets the class attributes and implements ``__call__``. Its figures then appear in ``summary.json`` with
    the prefix ``test/``, and during training with the prefix ``val/``.

    Attributes:
        figures: declaration of every figure that ``__call__`` returns, by name.
        needs: requirements on the subject: ``"samples"`` (drawn from a model, or loaded), ``"features"`` (of samples
            and real images, if an extractor is configured), ``"likelihood"`` (a model with a log-likelihood) or
            ``"latents"`` (a model that can diagnose its latents).
    """

    figures: ClassVar[Mapping[str, Figure]] = {}
    needs: ClassVar[frozenset[Need]] = frozenset({"samples"})

    def applies(self, subject: "Subject") -> bool:
        """Tell whether the subject can be measured; a measure that does not apply is skipped silently."""
        return self.needs <= subject.provides

    @abstractmethod
    def __call__(self, subject: "Subject") -> dict[str, Result]:
        """Measure the subject and return a result for each figure, by the figure's name.

        The measure fills in the protocol of each result, except for the checkpoint, the weights and the sampling
        settings, which the evaluation adds.
        """

    def running(self, share: "Share") -> dict[str, float]:
        """Compute the figures during training, equal on every process.

        By default, every process measures the samples of all processes. A measure that can split the work among the
        processes overrides this method.

        Args:
            share: samples drawn by this process, with access to those of the other processes.
        """
        return {name: result.value for name, result in self(share).items()}


class FeatureMeasure(Measure):
    """A measure that compares features of samples with those of real images."""

    needs = frozenset({"features"})

    def protocol(self, subject: "Subject", **own: Any) -> dict[str, Any]:
        """Build the protocol: fields that describe the features, then the measure's ``own`` fields."""
        fake, real = subject.compared
        common = {
            **real.protocol,
            "backend": f"torch-fidelity {version('torch-fidelity')}",
            "num_features": fake.features.shape[1],
            "num_samples": len(fake),
        }
        return {**common, **own}
