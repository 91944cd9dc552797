"""The parts of a comparison's table: columns, cells and rows."""

from dataclasses import dataclass, field
from typing import Any, Literal

from genlab.comparison.runs import Run
from genlab.comparison.seed_noise import Difference
from genlab.metrics.published import Published
from genlab.runs.verdicts import Standing, standings

Role = Literal["config", "seeds", "figure", "difference", "published", "verdict", "fact", "status"]
Spread = Literal["std", "sem"]


@dataclass
class Column:
    """A column; a figure has one column for each protocol under which it was measured.

    Attributes:
        key: unique key of the column.
        title: title shown to the user.
        role: kind of content.
        better: direction of improvement; None if there is none.
        unit: unit of the values; None if they are dimensionless.
        protocol: protocol fields that all values of the column share; None if the column is not a figure.
        mark: suffix of the title that distinguishes the protocols of a figure, such as ``[1]``.
        description: protocol of the figure in a few words.
    """

    key: str
    title: str
    role: Role
    better: Literal["min", "max"] | None = None
    unit: str | None = None
    protocol: dict[str, Any] | None = None
    mark: str = ""
    description: str | None = None

    @property
    def label(self) -> str:
        """Title with its mark, such as ``FID [2]``."""
        return f"{self.title} {self.mark}".rstrip()


@dataclass
class Cell:
    """A cell of the table.

    Attributes:
        text: formatted content.
        value: value, or mean over seeds; None if the cell has no number.
        std: standard deviation over seeds; None for fewer than two seeds.
        num: number of seeds.
        best: whether the value is the best of its column.
        values: value of each seed, if the cell is of a figure.
        difference: difference from the baseline with its interval, if the cell is of such a column.
    """

    text: str
    value: float | None = None
    std: float | None = None
    num: int = 1
    best: bool = False
    values: dict[int | None, float] = field(default_factory=dict)
    difference: Difference | None = None


@dataclass
class Row:
    """Runs that differ only in their seed.

    Attributes:
        label: name of the setting.
        runs: runs of the setting, one per seed; none in the row of published values.
        cells: cells by the key of the column; a missing cell has no value.
    """

    label: str
    runs: list[Run]
    cells: dict[str, Cell] = field(default_factory=dict)

    @property
    def published(self) -> Published | None:
        """The published figures of the setting's experiment; None if it reproduces none."""
        return self.runs[0].published if self.runs else None

    @property
    def standings(self) -> dict[str, Standing]:
        """The published figures beside those of the finished seeds, by short name."""
        if self.published is None:
            return {}
        return standings(self.published, [run.finished for run in self.runs if run.finished is not None])


@dataclass(frozen=True)
class Decision:
    """A statement of the seeds about two settings in one figure.

    Attributes:
        column: key of the figure's column.
        setting: name of the setting.
        against: name of the setting, or of the paper, that it is compared with.
        difference: the setting minus the other, with its interval; None if there is none.
        better: whether the setting is better than the other; None if that is not known.
        sentence: the decision, or the reason why there is none, in words.
    """

    column: str
    setting: str
    against: str
    difference: Difference | None
    better: bool | None
    sentence: str


@dataclass
class Table:
    """A comparison of runs.

    Attributes:
        columns: columns from left to right.
        rows: rows from top to bottom.
        shared: model, dataset and experiment, as far as they are the same for all runs.
        notes: warnings that a reader needs before trusting a ranking.
        spread: quantity shown after ±: the standard deviation of one run or the standard error of the mean.
        decisions: what the seeds say about pairs of settings, figure by figure.
        sort: column that the rows are sorted by, as the user named it.
    """

    columns: list[Column]
    rows: list[Row]
    shared: dict[str, str]
    notes: list[str]
    spread: Spread = "std"
    decisions: list[Decision] = field(default_factory=list)
    sort: str | None = None
