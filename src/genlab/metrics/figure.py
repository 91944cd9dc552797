"""What is known of a figure beside its values: its name for people, its direction, and what must agree to compare two.

Nothing heavy is imported here, so that runs can be compared without PyTorch.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

WEIGHTS = ("checkpoint", "weights")  # which of a run's parameters were measured
DATA = ("dataset", "levels", "binarization")
SAMPLES = (
    *DATA,
    "features",
    "weights_sha256",
    "channels",
    "resize",
    "reference",
    "num_real",
    "num_samples",
    "temperature",
    "sampling",
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
    *WEIGHTS,
)
LIKELIHOOD = (*DATA, "test_sha256", "standardized", "split", "num", "of", "given", *WEIGHTS)
TEXT = ("dataset", "test_sha256", "split", *WEIGHTS)  # of characters and bytes, that tokenizers share
TOKENS = (*TEXT, "tokenizer", "tokenizer_sha256")


@dataclass(frozen=True)
class Figure:
    """The declaration of a figure.

    Attributes:
        label: name for people.
        better: direction of improvement; ``None`` where there is none.
        protocol: fields of its protocol that must agree before two values stand in one column.
        unit: unit of its values; ``None`` for numbers without one.
        column: place among the columns of a table for which no figures were chosen; ``None`` leaves it out of them.
        curve: place among the curves that a page offers first; ``None`` for one that comes after these.
        live: whether its latest value is shown while a run trains.
    """

    label: str
    better: Literal["min", "max"] | None = None
    protocol: tuple[str, ...] = SAMPLES
    unit: str | None = None
    column: int | None = None
    curve: int | None = None
    live: bool = False

    def to_json(self) -> dict[str, Any]:
        """The declaration as a run folder holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Figure":
        """The declaration that a run folder holds; keys of a later version are passed over."""
        known = {key: value for key, value in content.items() if key in cls.__dataclass_fields__}
        return cls(**{**known, "protocol": tuple(known.get("protocol", SAMPLES))})


def short(name: str) -> str:
    """``test/fid`` is ``fid``."""
    return name.rpartition("/")[2]
