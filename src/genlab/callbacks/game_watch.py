"""Warn when adversarial training goes wrong: the discriminator wins outright, or modes are lost."""

import sys
from collections import deque

import pytorch_lightning as pl
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from genlab.training.adversarial import AdversarialTraining
from genlab.training.module import TrainingModule


class GameWatch(pl.Callback):
    """A callback that prints a warning when the discriminator wins or modes are lost.

    It reads figures that are logged anyway. A warning is printed once, and again only if all was well in between.

    Args:
        accuracy: accuracy of the discriminator on both real and generated examples from which on it has won, and its
            gradient teaches the generator little.
        window: number of logged steps that the accuracy is averaged over.
        lost: share of the highest number of modes reached so far that may be missing, in [0, 1].
    """

    def __init__(self, accuracy: PositiveFloat = 0.995, window: PositiveInt = 20, lost: NonNegativeFloat = 0.1) -> None:
        self.accuracy, self.window, self.lost = accuracy, window, lost
        self._recent: deque[float] = deque(maxlen=window)
        self._most_modes = 0.0
        self._said: set[str] = set()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: object) -> None:
        if not isinstance(module, AdversarialTraining) or not trainer.is_global_zero:
            return
        if not module.is_logged(module.batches_seen) or "train/accuracy_real" not in module.latest:
            return
        both = [module.latest_values()[f"train/accuracy_{kind}"] for kind in ("real", "fake")]
        self._recent.append(min(both))
        mean = sum(self._recent) / len(self._recent)
        self._say_if(
            len(self._recent) == self.window and mean >= self.accuracy,
            "wins",
            f"the discriminator tells {mean:.1%} of real and generated examples apart over the last {self.window} "
            f"logged steps ({module.images_seen:,} images): the generator learns little from it. A slower "
            "or regularized discriminator helps (training.discriminator_optimizer.lr, gan/regularizer=r1, "
            "gan/augment=ada)",
        )

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._look_at_modes(trainer, module)

    def _look_at_modes(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        value, _ = module.reported.get("val/modes", (None, 0))
        if value is None or not trainer.is_global_zero or trainer.sanity_checking:
            return
        self._most_modes = max(self._most_modes, value)
        self._say_if(
            value < (1 - self.lost) * self._most_modes,
            "modes",
            f"samples reach {value:,.0f} modes at {module.images_seen:,} images, and have reached "
            f"{self._most_modes:,.0f}: modes are being lost",
        )

    def _say_if(self, wrong: bool, what: str, line: str) -> None:
        if wrong and what not in self._said:
            print(f"genlab: warning: {line}", file=sys.stderr)
            self._said.add(what)
        elif not wrong:
            self._said.discard(what)

    def state_dict(self) -> dict[str, object]:
        return {"recent": list(self._recent), "most_modes": self._most_modes, "said": sorted(self._said)}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self._recent.extend(state["recent"])  # type: ignore[arg-type]
        self._most_modes = state["most_modes"]  # type: ignore[assignment]
        self._said = set(state["said"])  # type: ignore[call-overload]
