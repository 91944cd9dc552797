"""The checkpoint of the best value: when it is written, what is taken for no value, and what a resumed run knows."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from genlab.callbacks.best_checkpoint import BestCheckpoint
from genlab.models.base import GenerativeModel
from genlab.training.module import TrainingModule


class Model(GenerativeModel):
    def __init__(self) -> None:
        super().__init__((1, 2, 2))
        self.part = nn.Linear(1, 1)

    def sample(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


class Trainer(SimpleNamespace):
    """What the callback asks of Lightning's trainer; ``saved`` has the moments of its checkpoints."""

    def __init__(self, module: TrainingModule, **options: bool) -> None:
        super().__init__(**{"sanity_checking": False, "fast_dev_run": False, "is_global_zero": True, **options})
        self.module, self.saved, self.now = module, [], 0

    def save_checkpoint(self, path: Path, weights_only: bool = False) -> None:
        assert path == Path("run/best.ckpt")
        assert not weights_only  # a run can be resumed from it
        self.saved.append(self.now)


def watched(
    values: list[tuple[int, float]], best: BestCheckpoint, hook: str = "on_validation_end", **options: bool
) -> list[int]:
    """The moments at which checkpoints were written, of figures ``(images seen, value)``; each is looked at twice."""
    module = TrainingModule(Model())
    trainer: Any = Trainer(module, **options)
    for at, value in values:
        module.reported["val/x"] = (value, at)
        trainer.now = at
        for _ in range(2):
            if hook == "on_validation_end":
                best.on_validation_end(trainer, module)
            else:
                best.on_train_batch_end(trainer, module, {}, None, 0)
    saved: list[int] = trainer.saved
    return saved


def of_least() -> BestCheckpoint:
    return BestCheckpoint("run/best.ckpt", "val/x")


VALUES = [(0, 3.0), (10, 5.0), (20, 2.0), (30, 2.0), (40, -1.0), (50, -1.5), (60, 0.0), (70, 6.0), (80, 5.5), (90, 6.5)]


@pytest.mark.parametrize("hook", ["on_validation_end", "on_train_batch_end"])
def test_a_checkpoint_is_written_whenever_the_value_is_below_all_before(hook: str) -> None:
    best = of_least()
    assert watched(VALUES, best, hook) == [0, 20, 40, 50]
    assert best.best == -1.5


@pytest.mark.parametrize("hook", ["on_validation_end", "on_train_batch_end"])
def test_or_above_all_before_where_more_is_better(hook: str) -> None:
    best = BestCheckpoint("run/best.ckpt", "val/x", mode="max")
    assert watched(VALUES, best, hook) == [0, 10, 70, 90]
    assert best.best == 6.5
    assert watched([(at, -value) for at, value in VALUES], BestCheckpoint("run/best.ckpt", "val/x", "max")) == [
        0, 20, 40, 50,
    ]  # fmt: skip


@pytest.mark.parametrize("no_number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_never_the_best(no_number: float) -> None:
    best = of_least()
    assert watched([(1, no_number), (2, 4.0), (3, no_number), (4, 5.0), (5, 3.0)], best) == [2, 5]
    assert best.best == 3.0


def test_an_old_figure_is_not_that_of_the_present_weights() -> None:
    best = of_least()
    assert watched([(10, 3.0), (10, 1.0), (5, 0.5), (11, 2.0)], best) == [10, 11]
    assert best.best == 2.0
    other = TrainingModule(Model())
    trainer: Any = Trainer(other)
    other.reported["val/y"] = (0.0, 100)  # of another name
    best.on_validation_end(trainer, other)
    assert trainer.saved == []


def test_a_look_before_anything_is_measured_misses_nothing_that_follows() -> None:
    best, module = of_least(), TrainingModule(Model())
    trainer: Any = Trainer(module)
    best.on_train_batch_end(trainer, module, {}, None, 0)
    module.reported["val/x"] = (3.0, 0)  # of the weights as they were at first
    best.on_validation_end(trainer, module)
    assert (trainer.saved, best.best) == ([0], 3.0)


@pytest.mark.parametrize("trial", ["sanity_checking", "fast_dev_run"])
def test_trials_leave_no_checkpoint_and_take_no_figure(trial: str) -> None:
    best = of_least()
    assert watched(VALUES, best, **{trial: True}) == []
    assert best.best is None
    assert watched(VALUES[:3], best) == [0, 20]


def test_a_resumed_run_knows_the_best_and_when_it_was_measured() -> None:
    best, resumed = of_least(), of_least()
    watched(VALUES[:5], best)  # best at 40
    resumed.load_state_dict(best.state_dict())
    assert resumed.best == -1.0
    assert watched([(40, -9.0)], resumed) == []  # the figure of the checkpoint that it goes on from
    assert watched([(50, 0.0), (60, -2.0)], resumed) == [60]
    assert of_least().state_dict() != best.state_dict()


def told(best: BestCheckpoint, reported: dict[str, tuple[float, int]], **options: bool) -> None:
    module = TrainingModule(Model())
    module.reported.update(reported)
    trainer: Any = Trainer(module, **options)
    best.on_fit_end(trainer, module)


def test_it_is_said_at_the_end_that_there_is_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    best = BestCheckpoint("run/best.ckpt", "val/fid")
    told(best, {"val/nll": (1.0, 10), "val/kl": (2.0, 10)})
    line = "genlab: val/fid was never measured, so there is no best.ckpt (measured: {})\n"
    assert capsys.readouterr().err == line.format("val/kl, val/nll")
    told(best, {})
    assert capsys.readouterr().err == line.format("nothing")
    # Once for all processes; not after a trial, which leaves nothing; not if there is one.
    told(best, {}, is_global_zero=False)
    told(best, {}, fast_dev_run=True)
    best.load_state_dict({"best": 0.0, "seen_at": 1})
    told(best, {})
    assert capsys.readouterr() == ("", "")
