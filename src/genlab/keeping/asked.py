"""Which runs are asked for: by their status, model, data set and age."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from genlab.composition.explaining import did_you_mean
from genlab.errors import InputError
from genlab.keeping.kept import STATES, Kept
from genlab.machine.units import seconds_of

FILTERS = ("status", "model", "dataset", "older")


@dataclass(frozen=True)
class Asked:
    """Conditions on runs; an empty one asks for all.

    Attributes:
        status: statuses, of which a run has one.
        model: names of models, in which ``*`` stands for anything.
        dataset: names of data sets, likewise.
        older: seconds that have passed at least since the run ended.
    """

    status: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    dataset: tuple[str, ...] = ()
    older: float | None = None

    @classmethod
    def of(cls, words: Mapping[str, str]) -> "Asked":
        """Read what is asked from words such as ``{"status": "failed,interrupted", "older": "30d"}``.

        Args:
            words: values by key, one of :data:`FILTERS`; commas separate several.

        Raises:
            InputError: if a value is none of its key.
        """
        lists = {key: tuple(part.strip() for part in words.get(key, "").split(",") if part.strip()) for key in FILTERS}
        if empty := [key for key in words if key in FILTERS and not lists[key]]:
            raise InputError(f"{empty[0]}=: a value is missing")
        status = tuple(state.replace("_", " ") for state in lists["status"])
        if unknown := [state for state in status if state not in STATES]:
            raise InputError(f"status={unknown[0]}: no run has it{did_you_mean(unknown[0], STATES)}")
        older = None
        if "older" in words and (older := seconds_of(words["older"])) is None:
            raise InputError(f"older={words['older']}: give a number with m, h, d or w, such as 30d")
        return cls(status, lists["model"], lists["dataset"], older)

    def fits(self, run: Kept) -> bool:
        """Tell whether a run is one of those that are asked for."""
        return (
            (not self.status or run.status in self.status)
            and (not self.model or _matches(run.model, self.model))
            and (not self.dataset or _matches(run.dataset, self.dataset))
            and (self.older is None or run.age >= self.older)
        )


def _matches(name: str | None, patterns: tuple[str, ...]) -> bool:
    return name is not None and any(fnmatchcase(name, pattern) for pattern in patterns)
