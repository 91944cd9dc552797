"""Importance-weighted likelihood of the test set."""

from typing import TYPE_CHECKING, Any

from genlab.metrics.figure import LIKELIHOOD, Figure
from genlab.metrics.measures.base import Measure
from genlab.metrics.result import Result

if TYPE_CHECKING:
    from genlab.metrics.subject import Subject


class ImportanceWeightedLikelihood(Measure):
    """Bound on the test set's likelihood that becomes tighter with the number of latents drawn per image.

    Importance Weighted Autoencoders (arXiv:1509.00519), with ``metrics.importance_samples`` draws per image. Skipped if
    that is null, and for models without importance weights.
    """

    figures = {
        "nll_iw": Figure("NLL, importance-weighted", "min", (*LIKELIHOOD, "draws"), unit="nats", column=5),
        "bits_per_dim_iw": Figure("bits/dim, importance-weighted", "min", (*LIKELIHOOD, "draws"), unit="bits/dim"),
    }
    needs = frozenset({"likelihood"})

    def applies(self, subject: "Subject") -> bool:
        from genlab.models.abilities import ImportanceWeighted

        is_weighted = subject.importance_samples is not None and isinstance(subject.model, ImportanceWeighted)
        return super().applies(subject) and is_weighted

    def __call__(self, subject: "Subject") -> dict[str, Result]:
        from genlab.machine.progress import with_progress
        from genlab.metrics.likelihood import importance_weighted_bounds, mean_of
        from genlab.models.abilities import ImportanceWeighted

        model, data, num = subject.likelihood_model, subject.own_data, subject.num_test
        draws = subject.importance_samples
        assert draws is not None
        assert isinstance(model, ImportanceWeighted)
        with with_progress(f"test likelihood, {draws:,} draws an image", num) as advance:
            nll = importance_weighted_bounds(model, data, draws=draws, num=num, seed=subject.seed, advance=advance)
        protocol: dict[str, Any] = {
            **data.protocol,
            "split": "test",
            "num": len(nll),
            "likelihood": "importance-weighted bound",
            "draws": draws,
            "seed": subject.seed,
        }
        if model.num_classes is not None:
            protocol["given"] = "classes"
        values = {"nll_iw": nll}
        if model.discrete:
            values["bits_per_dim_iw"] = model.bits_per_dim(nll)
        return {name: mean_of(value, protocol, self.figures[name].unit) for name, value in values.items()}
