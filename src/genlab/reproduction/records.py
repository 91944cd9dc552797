"""Records: what a run of a recipe measured, with all that a stranger needs to judge it.

A record is the file ``results/<recipe>/<seed>.json``. Beside it lies the run folder ``results/<recipe>/<seed>``, which
``genlab compare`` reads; if the weights are small, they are in it, and ``genlab sample`` and ``evaluate`` open it too.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genlab.errors import InputError
from genlab.metrics.published import Outcome, Published, Verdict
from genlab.metrics.published import judged as judged_on
from genlab.metrics.result import Result


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
    def main_figure(self) -> str:
        """The short name of the figure by which the checkpoint was selected, or else of the first one.

        Some figures of the validation set, such as the error of a denoiser, are not measured at the end.
        """
        selected = str(self.content["training"]["selection"]["metric"]).rpartition("/")[2]
        return selected if selected in self.content["figures"] else next(iter(self.content["figures"]))

    @property
    def sha256(self) -> str | None:
        """The hash of the ``reference:`` block as it was when the run began; None if the block was written later."""
        return self.content["reference_sha256"]

    @property
    def ended(self) -> bool:
        """Tell whether the training ended as the experiment says."""
        return bool(self.content["training"]["ended"])

    @property
    def outcome(self) -> Outcome:
        """The facts about the run that a verdict needs."""
        figures = {name: result.value for name, result in self.figures.items()}
        return Outcome(figures, self.content["training"]["images_seen"], self.ended)

    def trained(self, published: Published) -> float | None:
        """Give the images seen as a fraction of those of the published training; None if that is not known."""
        return None if published.images is None else self.content["training"]["images_seen"] / published.images

    @property
    def weights(self) -> Path | None:
        """The run folder beside the record, if it holds the run's weights; None if they were too large to be kept."""
        folder = self.path.with_suffix("")
        return folder if (folder / "checkpoints").is_dir() else None


def path_of(recipe: str, seed: int, results: Path) -> Path:
    """Give the path of a record."""
    return results / recipe / f"{seed}.json"


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
    outcomes = [record.outcome for record in records]
    return {name: judged_on(published, name, outcomes) for name in published.figures}
