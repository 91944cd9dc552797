"""Records: what a run of a recipe measured, with all that a stranger needs to judge it.

A record is the file ``results/<recipe>/<seed>.json``. If the weights are small, they lie beside it in the run folder
``results/<recipe>/<seed>``, which ``genlab sample``, ``evaluate`` and ``compare`` open as any other.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genlab.errors import InputError
from genlab.metrics.published import Published, Verdict, verdict
from genlab.metrics.result import Result
from genlab.runs.folder import CONFIG


@dataclass(frozen=True)
class Record:
    """The record of one run.

    Attributes:
        seed: random seed of the run.
        content: content of the record's file.
        path: path of the file.
    """

    seed: int
    content: Mapping[str, Any]
    path: Path

    @property
    def figures(self) -> dict[str, Result]:
        """The measured figures, by short name."""
        return {name: Result.from_json(value) for name, value in self.content["figures"].items()}

    @property
    def sha256(self) -> str | None:
        """The hash of the ``reference:`` block as it was when the run began; None if the block was written later."""
        return self.content["reference_sha256"]

    @property
    def ended(self) -> bool:
        """Tell whether the training ended as the experiment says."""
        return bool(self.content["training"]["ended"])

    def trained(self, published: Published) -> float | None:
        """Give the images seen as a fraction of those of the published training; None if that is not known."""
        return None if published.images is None else self.content["training"]["images_seen"] / published.images

    @property
    def weights(self) -> Path | None:
        """The run folder that holds the run's weights; None if they were too large to be kept."""
        folder = self.path.with_suffix("")
        return folder if (folder / CONFIG).is_file() else None


def records_of(recipe: str, results: Path) -> list[Record]:
    """Read all records of a recipe, ordered by seed.

    Args:
        recipe: name of the recipe.
        results: folder of all records.

    Raises:
        InputError: if a file is damaged.
    """
    found = []
    for path in (results / recipe).glob("*.json"):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found.append(Record(int(content["seed"]), content, path))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged ({error})") from error
    return sorted(found, key=lambda record: record.seed)


def judged(published: Published, records: Sequence[Record]) -> dict[str, Verdict]:
    """Compute the verdict on each published figure from the records of all seeds.

    Args:
        published: published figures.
        records: records of a recipe's runs.
    """
    fractions = [fraction for record in records if (fraction := record.trained(published)) is not None]
    found = {}
    for name in published.figures:
        values = [record.figures[name].value for record in records if name in record.figures]
        ended = all(record.ended for record in records)
        found[name] = verdict(published, name, values, min(fractions, default=None), ended)
    return found
