"""What every measure declares and does."""

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
    """Something that is measured of a model, or of a set of images.

    A subclass states the class attributes and the call. Its figures then stand in ``summary.json`` under ``test/``, and
    during training under ``val/``.

    Attributes:
        figures: declaration of every figure that the call returns, by name.
        needs: what the subject must have: ``"samples"`` (drawn from a model, or given), ``"features"`` (of the samples
            and of real images, where an extractor is configured), ``"likelihood"`` (a model with a log-likelihood) or
            ``"latents"`` (a model that can say what its latents carry).
    """

    figures: ClassVar[Mapping[str, Figure]] = {}
    needs: ClassVar[frozenset[Need]] = frozenset({"samples"})

    def applies(self, subject: "Subject") -> bool:
        """Whether the subject can be measured by this; what does not apply is left out without a word."""
        return self.needs <= subject.provides

    @abstractmethod
    def __call__(self, subject: "Subject") -> dict[str, Result]:
        """Measure the subject: a result for each figure, under the figure's name.

        The subject states the checkpoint, the weights and how samples were drawn; the rest of a result's protocol is
        the measure's to state.
        """

    def running(self, share: "Share") -> dict[str, float]:
        """The figures during training, alike on every process.

        Every process measures the samples of all of them. A measure overrides this where each can do its part.

        Args:
            share: samples that this process has drawn, and access to those of the others.
        """
        return {name: result.value for name, result in self(share).items()}


class FeatureMeasure(Measure):
    """A measure that compares features of samples with those of real images."""

    needs = frozenset({"features"})

    def protocol(self, subject: "Subject", **own: Any) -> dict[str, Any]:
        """How features came about, and the fields of the estimator itself, which come last."""
        fake, real = subject.compared
        common = {
            **real.protocol,
            "backend": f"torch-fidelity {version('torch-fidelity')}",
            "num_features": fake.features.shape[1],
            "num_samples": len(fake),
        }
        return {**common, **own}
