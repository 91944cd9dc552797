"""Likelihood of the test set."""

import math
from typing import TYPE_CHECKING, Any

from genlab.metrics.figure import LIKELIHOOD, TEXT, TOKENS, Figure
from genlab.metrics.measures.base import Measure
from genlab.metrics.result import Result

if TYPE_CHECKING:
    from genlab.metrics.subject import Subject


class Likelihood(Measure):
    """Negative log-likelihood of the test set: nats per example, bits/dim, and for text also per token and byte.

    A density of real numbers is reported in nats only. For a class-conditional model, it is the likelihood of images
    given their classes, -log p(x|y), as recorded in the protocol.
    """

    figures = {
        "nll": Figure("NLL", "min", LIKELIHOOD, unit="nats", column=1, curve=4, live=True),
        "bits_per_dim": Figure("bits/dim", "min", LIKELIHOOD, unit="bits/dim", column=2, curve=1, live=True),
        "nats_per_token": Figure("nats/token", "min", TOKENS, unit="nats/token", column=3, curve=2, live=True),
        "bits_per_char": Figure("bits/character", "min", TEXT, unit="bits/character"),
        "bits_per_byte": Figure("bits/byte", "min", TEXT, unit="bits/byte", column=4),
        "perplexity": Figure("perplexity of a token", "min", TOKENS, unit="tokens"),
    }
    needs = frozenset({"likelihood"})

    def __call__(self, subject: "Subject") -> dict[str, Result]:
        from genlab.machine.progress import with_progress
        from genlab.metrics.likelihood import mean_of, negative_log_likelihoods

        model, data, num = subject.likelihood_model, subject.own_data, subject.num_test
        with with_progress("test likelihood", num) as advance:
            nll = negative_log_likelihoods(model, data, num=num, seed=subject.seed, advance=advance)
        protocol: dict[str, Any] = {
            **data.protocol,
            "split": "test",
            "num": len(nll),
            "likelihood": model.likelihood,
            **model.likelihood_details,
            "seed": subject.seed,
        }
        if model.likelihood != "exact":
            protocol["draws"] = 1
        if not model.discrete:
            protocol["of"] = "density"
        if model.num_classes is not None:
            protocol["given"] = "classes"
        values = {"nll": nll}
        if per_example := data.per_example("test"):
            values |= {name: nll / divisor for name, divisor in per_example.items()}
        elif model.discrete:
            values["bits_per_dim"] = model.bits_per_dim(nll)
        results = {name: mean_of(value, protocol, self.figures[name].unit) for name, value in values.items()}
        if "nats_per_token" in results:
            perplexity = math.exp(results["nats_per_token"].value)
            results["perplexity"] = Result(perplexity, protocol, unit=self.figures["perplexity"].unit)
        return results
