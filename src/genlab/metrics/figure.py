"""Declarations of figures: label, direction of improvement, and the protocol fields that comparable values share.

Nothing heavy is imported here, so that runs can be compared without PyTorch.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

WEIGHTS = ("checkpoint", "weights")  # which of a run's parameters were measured
DATA = ("dataset", "test_sha256", "split_seed", "levels", "binarization")
SAMPLES = (
    *DATA,
    "features",
    "weights_sha256",
    "channels",
    "resize",
    "reference",
    "reference_sha256",
    "num_real",
    "num_samples",
    "temperature",
    "sampling",
    "norm_statistics",
    *WEIGHTS,
)
MODES = (
    *DATA,
    "classifier_sha256",
    "mode",
    "num_modes",
    "num_samples",
    "temperature",
    "sampling",
    "norm_statistics",
    *WEIGHTS,
)
LIKELIHOOD = (*DATA, "standardized", "split", "num", "of", "given", *WEIGHTS)
TEXT = ("dataset", "test_sha256", "split", *WEIGHTS)  # per character or byte: comparable across tokenizers
TOKENS = (*TEXT, "tokenizer", "tokenizer_sha256")


@dataclass(frozen=True)
class Figure:
    """The declaration of a figure.

    Attributes:
        label: name shown to the user.
        better: direction of improvement; None if the figure has none.
        protocol: protocol fields that must be equal for two values to appear in one column.
        unit: unit of the values; None for dimensionless values.
        column: position among the default columns of a table; None if the figure is not a default column.
        curve: position among the curves that a report page offers first; None for a later position.
        live: whether the latest value is shown while a run trains.
    """

    label: str
    better: Literal["min", "max"] | None = None
    protocol: tuple[str, ...] = SAMPLES
    unit: str | None = None
    column: int | None = None
    curve: int | None = None
    live: bool = False

    def to_json(self) -> dict[str, Any]:
        """Convert the declaration to the form stored in a run folder."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Figure":
        """Read a declaration stored in a run folder; keys of later versions are ignored."""
        known = {key: value for key, value in content.items() if key in cls.__dataclass_fields__}
        return cls(**{**known, "protocol": tuple(known.get("protocol", SAMPLES))})


def short(name: str) -> str:
    """Remove the split from a figure's name: ``test/fid`` becomes ``fid``."""
    return name.rpartition("/")[2]
