"""Candidates among which a run's precision and compilation are chosen, and what the user has already decided."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from genlab.errors import InputError
from genlab.machine.devices import computes_in_bfloat16, computes_in_tf32
from genlab.training.compilation import graphs_are_possible, pays
from genlab.training.module import TrainingModule

# Keys of the trainer that a choice sets.
CHOSEN = ("precision", "tf32", "compile")
LONGEST = 600.0  # seconds


@dataclass(frozen=True)
class Tuning:
    """The settings of ``trainer.tune``.

    Attributes:
        on: whether anything is measured.
        precision: whether the precision is chosen too, and not only the compilation.
        seconds: upper limit on the time that the measurement takes.
    """

    on: bool
    precision: bool
    seconds: float

    @classmethod
    def from_config(cls, trainer: Mapping[str, Any], processes: int) -> "Tuning":
        """Read the settings from the config of a trainer.

        Args:
            trainer: config of the trainer, as plain values.
            processes: number of processes of the run.

        Raises:
            InputError: if there is nothing that could be measured with them.
        """
        on = trainer.get("tune", "off") == "auto"
        precision, seconds = bool(trainer.get("tune_precision", False)), float(trainer.get("tune_seconds", 30.0))
        if not 0 < seconds <= LONGEST:
            raise InputError(f"trainer.tune_seconds={seconds:g}: above 0 and at most {LONGEST:.0f}")
        if precision and not on:
            raise InputError(
                "trainer.tune_precision=true: nothing is measured with trainer.tune=off; add trainer.tune=auto"
            )
        if on and processes > 1:
            raise InputError(
                f"trainer.tune=auto: it measures one device, and this run has {processes}; measure with "
                "trainer.devices=1, and give the choice as trainer.compile=... and trainer.precision=..."
            )
        return cls(on, precision, seconds)


@dataclass(frozen=True)
class Candidate:
    """One choice of precision and compilation.

    Attributes:
        precision: precision as Lightning names it.
        tf32: whether float32 matrix products are rounded to TF32 in training steps.
        compile: whether the model is compiled; ``"reduce-overhead"`` for CUDA graphs too.
    """

    precision: str
    tf32: bool
    compile: bool | Literal["reduce-overhead"]

    def settings(self) -> dict[str, Any]:
        """Give the values of the trainer's keys that this choice sets."""
        return {"precision": self.precision, "tf32": self.tf32, "compile": self.compile}

    def __str__(self) -> str:
        words: dict[Any, str] = {False: "not compiled", True: "compiled", "reduce-overhead": "CUDA graphs"}
        return f"{self.precision}{', TF32' * self.tf32}, {words[self.compile]}"


def decided(overrides: Iterable[str], config: Mapping[str, Any]) -> dict[str, str]:
    """Find the keys of the trainer that are not to be chosen, each with the reason.

    Args:
        overrides: overrides of the run, as the user wrote them.
        config: config of the run, as plain values.
    """
    given = {override.partition("=")[0].lstrip("+"): override for override in overrides}
    found = {key: f"{given[f'trainer.{key}']} was given" for key in CHOSEN if f"trainer.{key}" in given}
    if config.get("reference") is not None:
        experiment = (config.get("choices") or {}).get("experiment")
        of_paper = f"experiment={experiment} stands for published figures"
        found = {**dict.fromkeys(CHOSEN, of_paper), **found}
    return found


def candidates(
    trainer: Mapping[str, Any],
    training: TrainingModule,
    device: torch.device,
    batches: int | None,
    free: Iterable[str],
) -> list[Candidate]:
    """List the candidates, the run's own settings first.

    Args:
        trainer: config of the trainer, as plain values.
        training: training procedure of the run.
        device: device that the run trains on.
        batches: number of batches of the run; None if only time limits it.
        free: keys of the trainer that may be chosen.
    """
    free = set(free)
    how = trainer.get("compile", False)
    own = Candidate(
        str(trainer.get("precision", "32-true")),
        bool(trainer.get("tf32", False)),
        pays(batches) if how == "auto" else how,
    )
    numerics = [(own.precision, own.tf32)]
    if "precision" in free:
        numerics += [(precision, False) for precision in ("32-true", "bf16-mixed")]
        if not computes_in_bfloat16("cuda" if device.type == "cuda" else "cpu"):
            numerics.pop()
    if "tf32" in free and computes_in_tf32(device):
        numerics += [("32-true", True)] if any(precision == "32-true" for precision, _ in numerics) else []
    ways: list[Any] = [own.compile]
    if "compile" in free:
        ways += [False, True]
        if device.type == "cuda" and graphs_are_possible(training):
            ways.append("reduce-overhead")
    return list(dict.fromkeys([own, *(Candidate(*one, how) for one in numerics for how in ways)]))
