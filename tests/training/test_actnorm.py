"""Glow's normalizations start from the data once: alike on every process, and not again on resuming."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from genlab.runs.checkpoints import read_checkpoint
from support.forks import TWO, forked, in_child
from support.kills import kill_at
from support.small_runs import COMMON, only_run, outputs

GLOW = ("train", "model=flow/glow", "model.num_steps=2", "model.width=8", *COMMON)
STILL = ("training.optimizer.lr=0.0", "trainer.max_epochs=1")  # ends with the weights that it starts with


def keeping_weights(folder: Path, moment: str, then: Callable[[], None] | None = None) -> Callable[[], None]:
    """A trap: every process of a run writes its weights at a hook of its training module, ``<moment>-<rank>.pt``."""

    def trap() -> None:
        from genlab.training.objective import ObjectiveTraining

        forked()
        original = getattr(ObjectiveTraining, moment)

        def trapped(self: ObjectiveTraining, *args: object) -> object:
            result = original(self, *args)
            torch.save(self.state_dict(), folder / f"{moment}-{os.environ.get('RANK', '0')}.pt")
            return result

        setattr(ObjectiveTraining, moment, trapped)
        if then is not None:
            then()

    return trap


def normalizations(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {name: value for name, value in state.items() if name.endswith(("norm.bias", "norm.log_scale"))}
    assert any(name.startswith("ema.") for name in found)
    scales = [value for name, value in found.items() if name.endswith("log_scale")]
    assert all(value.abs().max() > 0.01 for value in scales), "not started from the data"
    return found


def assert_equal(state: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert state.keys() == other.keys()
    assert not [
        name for name, value in state.items() if isinstance(value, Tensor) and not torch.equal(value, other[name])
    ]


def kept(folder: Path, moment: str, rank: int) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(folder / f"{moment}-{rank}.pt", weights_only=True)
    return state


def test_all_processes_start_as_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    for name, more in (("one", ()), ("two", TWO)):
        folder = outputs(monkeypatch, tmp_path / name)
        folder.mkdir()
        # Before the processes have told each other anything, and after an epoch of steps that change nothing.
        keep = keeping_weights(folder, "configure_model", keeping_weights(folder, "on_train_epoch_end"))
        assert in_child([*GLOW, *STILL, *more], keep) == 0
        ranks = range(2 if more else 1)
        states += [kept(folder, moment, rank) for moment in ("configure_model", "on_train_epoch_end") for rank in ranks]
        states.append(read_checkpoint(only_run(folder) / "checkpoints" / "last.ckpt")["state_dict"])
    assert len(states) == 3 + 5
    for state in states[1:]:
        assert_equal(normalizations(states[0]), normalizations(state))


@pytest.mark.parametrize("more", [(), TWO])
def test_a_resumed_run_goes_on_from_its_own(
    more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = outputs(monkeypatch, tmp_path / "outputs")
    folder.mkdir()
    stop = kill_at("genlab.training.objective.ObjectiveTraining.training_step", 14, signal.SIGTERM)
    keep = keeping_weights(folder, "on_train_start", stop)
    assert in_child([*GLOW, "training.optimizer.lr=0.01", *more], keep) == 143
    run = only_run(folder)
    before = kept(folder, "on_train_start", 0)
    checkpoint = read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
    learned = normalizations(checkpoint)
    assert not any(torch.equal(value, learned[name]) for name, value in normalizations(before).items())
    assert in_child(["train", f"resume={run}"], keeping_weights(folder, "on_train_start")) == 0
    for rank in range(2 if more else 1):
        assert_equal(kept(folder, "on_train_start", rank), checkpoint)
