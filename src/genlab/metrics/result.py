"""A number with its protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Result:
    """One measured figure.

    Attributes:
        value: the number itself.
        protocol: how it was measured: data, estimator, extractor, numbers of examples, checkpoint, weights, seed.
        unit: unit of the value; ``None`` for a number without one.
        std: standard deviation over the estimator's own repetitions.
        standard_error: standard error of the value over the examples.
        warning: a reason not to trust the value, in a sentence.
        extra: what else is to be known of the value, such as the number of modes there are.
        keys: order of the keys of :meth:`to_json` where it is not the usual one.
    """

    value: float
    protocol: Mapping[str, Any] = field(default_factory=dict)
    unit: str | None = None
    std: float | None = None
    standard_error: float | None = None
    warning: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    keys: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The result as ``summary.json`` and ``evaluation.json`` hold it; what is not known has no key."""
        known = {"value": self.value, "std": self.std, "unit": self.unit, "protocol": dict(self.protocol)}
        known |= {"standard_error": self.standard_error, **self.extra, "warning": self.warning}
        return {key: known[key] for key in dict.fromkeys((*self.keys, *known)) if known.get(key) is not None}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Result":
        """The result that :meth:`to_json` made the content of, whatever the order of its keys."""
        named = ("value", "protocol", "unit", "std", "standard_error", "warning")
        return cls(
            **{name: content[name] for name in named if name in content},
            extra={key: value for key, value in content.items() if key not in named},
            keys=tuple(content),
        )

    def under(self, protocol: Mapping[str, Any]) -> "Result":
        """The result with more of its protocol stated."""
        return replace(self, protocol={**self.protocol, **protocol})
