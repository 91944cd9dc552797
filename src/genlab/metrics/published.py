"""Published figures that an experiment is to reproduce, and verdicts, which are computed from what was measured.

Nothing heavy is imported here, so that verdicts can be listed without PyTorch.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from genlab.errors import InputError
from genlab.metrics.catalogue import figure

Word = Literal["reproduced", "better", "truncated", "reduced", "failed", "few seeds", "unrun"]
SEEDS = 3  # number of seeds below which nothing counts as reproduced


@dataclass(frozen=True)
class Tolerance:
    """The largest distance from a published figure that still counts as that figure.

    Attributes:
        value: distance, in the unit of the figure.
        why: reason for the size, such as the spread of others' reproductions.
        side: ``"both"``, or ``"worse"`` if a figure that is better than the published one counts as reproduced too.
    """

    value: float
    why: str
    side: Literal["both", "worse"] = "both"


@dataclass(frozen=True)
class Difference:
    """A difference between an experiment and the published one.

    Attributes:
        what: description of the difference.
        effect: expected effect on the figure.
    """

    what: str
    effect: Literal["better", "worse", "none", "unknown"] = "unknown"


@dataclass(frozen=True)
class Published:
    """The ``reference:`` block of an experiment: what was published, and what counts as reproducing it.

    Attributes:
        paper: title and place of the publication.
        figures: published values by the figure's short name, such as ``nll``.
        read: place where the values were read: the paper itself, or another source that quotes it.
        protocol: protocol of the published values.
        tolerance: tolerance of each figure.
        images: number of training images that the published training has seen; None if it ends by a criterion of its
            own, such as early stopping, or is not known.
        reproductions: what others have measured.
        reduced: reason why the experiment's model is smaller than the published one; None if it is not.
        differences: all other differences.
        curve: points of a published training curve by the name of a logged figure: pairs of images seen and value.
    """

    paper: str
    figures: Mapping[str, float]
    read: str
    protocol: str
    tolerance: Mapping[str, Tolerance]
    images: int | None = None
    reproductions: str | None = None
    reduced: str | None = None
    differences: tuple[Difference, ...] = ()
    curve: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)

    @classmethod
    def from_config(cls, block: Mapping[str, Any], where: str = "reference") -> "Published":
        """Read a ``reference:`` block.

        Args:
            block: block as plain values.
            where: place of the block, for error messages.

        Raises:
            InputError: if a key is missing or unknown, or a figure has no tolerance with its reason.
        """
        if not isinstance(block, Mapping):
            raise InputError(f"{where}={block}: expected {', '.join(cls.__dataclass_fields__)}")
        if unknown := block.keys() - cls.__dataclass_fields__.keys():
            raise InputError(
                f"{where}: there is no key {min(unknown)}; known are {', '.join(cls.__dataclass_fields__)}"
            )
        if missing := {"paper", "figures", "read", "protocol", "tolerance"} - block.keys():
            raise InputError(f"{where}: no value for {min(missing)}")
        images = block.get("images")
        if images is not None and not (isinstance(images, int) and images > 0):
            raise InputError(f"{where}: images={images} is no number of images")
        try:
            if untold := set(block["figures"]) ^ set(block["tolerance"]):
                raise InputError(f"{where}: {min(untold)} needs a figure and a tolerance")
            return cls(
                **{
                    **block,
                    "figures": {name: float(value) for name, value in block["figures"].items()},
                    "tolerance": {
                        name: Tolerance(**{**node, "value": float(node["value"])})
                        for name, node in block["tolerance"].items()
                    },
                    "differences": tuple(Difference(**node) for node in block.get("differences", ())),
                }
            )
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise InputError(f"{where} cannot be read ({error})") from error


def fingerprint(block: Mapping[str, Any]) -> str:
    """Hash a ``reference:`` block, so that a record can prove that the block has not changed since its run began."""
    return hashlib.sha256(json.dumps(block, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class Verdict:
    """The verdict on one figure of an experiment.

    Attributes:
        word: verdict; ``few seeds`` stands for a value within the tolerance on fewer than three seeds.
        mean: mean over seeds; None if there is none.
        standard_error: standard error of the mean over seeds; None for one seed.
        seeds: number of seeds.
        trained: images seen as a fraction of those of the published training; None if that is not known.
    """

    word: Word
    mean: float | None = None
    standard_error: float | None = None
    seeds: int = 0
    trained: float | None = None

    @property
    def measured(self) -> str:
        """The mean over seeds with its standard error as text; a dash if nothing was measured."""
        if self.mean is None:
            return "-"
        return f"{self.mean:.5g}" + (f" ± {self.standard_error:.2g}" if self.standard_error is not None else "")

    def __str__(self) -> str:
        if self.word == "truncated":
            return "truncated" if self.trained is None else f"truncated {math.floor(100 * self.trained)} %"
        if self.word == "few seeds":
            return f"within, {self.seeds} of {SEEDS} seeds"
        return self.word


def of_values(values: Sequence[float]) -> Verdict:
    """Give the mean over at least one seed with its standard error, without a judgement."""
    mean, error = math.fsum(values) / len(values), None
    if len(values) > 1:
        error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
    return Verdict("unrun", mean, error, len(values))


def verdict(published: Published, name: str, values: Sequence[float], trained: float | None, ended: bool) -> Verdict:
    """Compute the verdict on a figure.

    A value that is better than the published one by more than the tolerance is ``better`` however long the training
    was. Otherwise a training shorter than the published one is ``truncated``, and a smaller model ``reduced``.

    Args:
        published: published figures.
        name: short name of the figure.
        values: measured values, one for each seed.
        trained: smallest number of images seen by a seed, as a fraction of the published number; None if the published
            training ends by a criterion of its own.
        ended: whether every seed's training ended as its experiment says, and not before.
    """
    if not values:
        return Verdict("unrun")
    found = of_values(values)
    mean = found.mean
    assert mean is not None

    def give(word: Word) -> Verdict:
        return replace(found, word=word, trained=trained)

    tolerance = published.tolerance[name]
    better_by = (published.figures[name] - mean) * (-1 if figure(name).better == "max" else 1)
    if better_by > tolerance.value and tolerance.side == "both":
        return give("better")
    if not ended or (trained is not None and trained < 0.999):  # a batch that is left out is no shorter training
        return give("truncated")
    if published.reduced is not None:
        return give("reduced")
    if not better_by >= -tolerance.value:  # so that NaN has failed, too
        return give("failed")
    return give("reproduced" if len(values) >= SEEDS else "few seeds")


@dataclass(frozen=True)
class Outcome:
    """The facts about one finished run that a verdict needs.

    Attributes:
        figures: measured values by short name.
        images_seen: number of images that the training has seen.
        ended: whether the training ended as its experiment says, and not before.
    """

    figures: Mapping[str, float]
    images_seen: int
    ended: bool


def judged(published: Published, name: str, outcomes: Sequence[Outcome]) -> Verdict:
    """Compute the verdict on a figure from finished runs of one experiment; the shortest training counts.

    Args:
        published: published figures.
        name: short name of the figure.
        outcomes: finished runs, one for each seed.
    """
    values = [one.figures[name] for one in outcomes if name in one.figures]
    trained = None
    if published.images is not None and outcomes:
        trained = min(one.images_seen for one in outcomes) / published.images
    return verdict(published, name, values, trained, all(one.ended for one in outcomes))
