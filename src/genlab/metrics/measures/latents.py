"""Diagnosis of the latents of test images."""

from typing import TYPE_CHECKING, Any

from genlab.metrics.figure import LIKELIHOOD, Figure
from genlab.metrics.measures.base import Measure
from genlab.metrics.result import Result

if TYPE_CHECKING:
    from genlab.metrics.subject import Subject


class Latents(Measure):
    """Figures from a model's own diagnosis of its latents on test images.

    See :class:`~genlab.models.abilities.Diagnosable`.

    Args:
        num: number of test images; fewer if the model limits them (``most_diagnosed``).
    """

    figures = {
        "rate": Figure("rate", None, LIKELIHOOD, unit="nats"),
        "distortion": Figure("distortion", None, LIKELIHOOD, unit="nats"),
        "active_units": Figure("active units", None, LIKELIHOOD),
        "active_blocks": Figure("active blocks", None, LIKELIHOOD),
        "aggregate_gap": Figure("aggregate posterior's gap", "min", LIKELIHOOD, unit="nats"),
        "codebook_use": Figure("codebook use", "max", LIKELIHOOD),
        "codebook_perplexity": Figure("codebook's perplexity", "max", LIKELIHOOD),
        "inverse_error": Figure("decoding's error", "min", LIKELIHOOD),
    }
    needs = frozenset({"latents"})

    def __init__(self, num: int = 2000) -> None:
        self.num = num

    def __call__(self, subject: "Subject") -> dict[str, Result]:
        from torch import Tensor

        from genlab.metrics.drawing import evaluating, own_randomness
        from genlab.models.abilities import Diagnosable

        model, data = subject.own_model, subject.own_data
        assert isinstance(model, Diagnosable)
        x, y = (part.to(model.device) for part in data.some("test", min(self.num, model.most_diagnosed or self.num)))
        with own_randomness(subject.seed, model.device), evaluating(model):
            found = model.diagnose(x, y)
        protocol: dict[str, Any] = {**data.protocol, "split": "test", "num": len(x), "seed": subject.seed}
        if model.num_classes is not None:
            protocol["given"] = "classes"
        units = {name: figure.unit for name, figure in self.figures.items()}
        return {
            name: Result(float(value), protocol, unit=units.get(name))
            for name, value in found.items()
            if not isinstance(value, Tensor)
        }
