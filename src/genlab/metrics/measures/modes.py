"""Coverage of the data's modes by samples."""

from typing import TYPE_CHECKING

from genlab.metrics.figure import MODES, Figure
from genlab.metrics.measures.base import Measure
from genlab.metrics.result import Result

if TYPE_CHECKING:
    from genlab.metrics.running import Share
    from genlab.metrics.subject import Subject


class ModesReached(Measure):
    """Number of modes with at least one sample, and how evenly samples cover them, for data with countable modes.

    The counter is configured in ``metrics.modes``; see :mod:`genlab.metrics.modes`.
    """

    figures = {
        "modes": Figure("modes", "max", MODES, column=9, live=True),
        "high_quality": Figure("high quality", "max", MODES, column=10, live=True),
        "kl_to_uniform": Figure("KL to uniform", "min", MODES, unit="nats"),
        "classifier_confidence": Figure("classifier's confidence", None, MODES),
    }

    def applies(self, subject: "Subject") -> bool:
        return super().applies(subject) and subject.modes is not None

    def __call__(self, subject: "Subject") -> dict[str, Result]:
        assert subject.modes is not None
        modes, num = subject.modes, len(subject.samples)
        found = modes(subject.samples)
        protocol = {**subject.facts, **modes.protocol, "num_samples": num}
        results = {name: Result(value, protocol) for name, value in found.items()}
        few = f"{num} samples cannot show {modes.num_modes} modes well" if num < 10 * modes.num_modes else None
        results["modes"] = Result(found["modes"], protocol, warning=few, extra={"out_of": modes.num_modes})
        results["kl_to_uniform"] = Result(
            found["kl_to_uniform"],
            protocol,
            unit=self.figures["kl_to_uniform"].unit,
            extra={"sampling_floor": (modes.num_modes - 1) / (2 * num)},
            keys=("value", "protocol", "unit"),
        )
        return results

    def running(self, share: "Share") -> dict[str, float]:
        assert share.modes is not None
        return share.modes(share.samples)
