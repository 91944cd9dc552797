"""The speed that a run's summary reports, in the unit of its kind of data."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # comparing runs does without PyTorch
    from genlab.modalities.modality import Modality

KEY = "speed"  # in summary.json; a summary of an earlier version has none


def speed_facts(modality: "Modality", shape: tuple[int, ...]) -> dict[str, Any]:
    """Give what a summary says beside its images per second.

    Args:
        modality: kind of data that the run trained on.
        shape: shape of an example.
    """
    return {KEY: {"unit": modality.unit_of_speed, "per_image": modality.counted_in(shape)}}


def speed_of(summary: Mapping[str, Any]) -> tuple[float | None, str]:
    """Give the speed of training that a summary reports, and its unit, such as ``images/s`` or ``tokens/s``.

    Args:
        summary: content of ``summary.json``.
    """
    about = summary.get(KEY) or {}
    rate = summary.get("images_per_second")
    return None if rate is None else rate * about.get("per_image", 1), about.get("unit", "images/s")
