"""A result: a measured value with its protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# Values of the protocol's field ``likelihood`` that stand for lower bounds on a likelihood.
BOUNDS = ("lower_bound", "importance-weighted bound")


@dataclass(frozen=True)
class Result:
    """The measured value of a figure.

    Attributes:
        value: measured value.
        protocol: description of the measurement: data, estimator, extractor, numbers of examples, checkpoint, weights,
            seed.
        unit: unit of the value; None if it is dimensionless.
        std: standard deviation over the estimator's own repetitions.
        standard_error: standard error of the value over the examples.
        warning: reason not to trust the value, in a sentence.
        extra: further facts about the value, such as the total number of modes.
        keys: order of the keys in :meth:`to_json`, if it differs from the default.
    """

    value: float
    protocol: Mapping[str, Any] = field(default_factory=dict)
    unit: str | None = None
    std: float | None = None
    standard_error: float | None = None
    warning: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    keys: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @property
    def is_upper_bound(self) -> bool:
        """Tell whether the value bounds a negative log-likelihood from above, as a bound on the likelihood does."""
        return self.protocol.get("likelihood") in BOUNDS

    def to_json(self) -> dict[str, Any]:
        """Convert the result to the form stored in ``summary.json`` and ``evaluation.json``, without None values."""
        known = {"value": self.value, "std": self.std, "unit": self.unit, "protocol": dict(self.protocol)}
        known |= {"standard_error": self.standard_error, **self.extra, "warning": self.warning}
        return {key: known[key] for key in dict.fromkeys((*self.keys, *known)) if known.get(key) is not None}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Result":
        """Rebuild a result from the output of :meth:`to_json`, keeping the order of its keys."""
        named = ("value", "protocol", "unit", "std", "standard_error", "warning")
        return cls(
            **{name: content[name] for name in named if name in content},
            extra={key: value for key, value in content.items() if key not in named},
            keys=tuple(content),
        )

    def under(self, protocol: Mapping[str, Any]) -> "Result":
        """Return a copy of the result with fields added to its protocol."""
        return replace(self, protocol={**self.protocol, **protocol})

    def doubted(self, reason: str) -> "Result":
        """Return a copy of the result with a reason not to trust it, beside the reasons that it has."""
        return replace(self, warning="; ".join(filter(None, (self.warning, reason))))
