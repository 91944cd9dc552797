"""Exponential moving average of a model's weights whose memory is a number of images, as in the code of StyleGAN2."""

from collections.abc import Sequence

import torch
from torch import nn

from genlab.training.ema import ExponentialMovingAverage


class AverageOverImages(ExponentialMovingAverage):
    """Average in which the weights of ``half_life`` images ago count half as much as those of today.

    An update that comes ``n`` images after the last one has the decay ``0.5 ** (n / half_life)``. With a ramp, the
    half-life is at most ``ramp`` times the images seen before, so that the average forgets the initial weights.

    Args:
        model: model to average.
        half_life: half-life in images, above 0.
        ramp: upper limit on the half-life as a share of the images seen so far; None for no limit.
        shared: names of submodules that are not averaged.
    """

    def __init__(
        self, model: nn.Module, half_life: float, ramp: float | None = None, shared: Sequence[str] = ()
    ) -> None:
        super().__init__(model, decay=0.0, shared=shared)
        self.half_life, self.ramp = half_life, ramp
        self.images = 0

    def decay_at(self, images: int) -> float:
        """Compute the decay of an update when ``images`` have been seen."""
        half_life = self.half_life if self.ramp is None else min(self.half_life, self.ramp * self.images)
        return 0.5 ** ((images - self.images) / half_life) if half_life > 0 else 0.0

    @torch.no_grad()
    def update_at(self, images: int, model: nn.Module) -> None:
        """Update the average with the current weights of the model.

        Args:
            images: number of images seen up to these weights.
            model: model whose weights are averaged.
        """
        self._move(model, 1 - self.decay_at(images))
        self.images = images
        self.updates += 1

    def get_extra_state(self) -> dict[str, int]:
        return {**super().get_extra_state(), "images": self.images}

    def set_extra_state(self, state: dict[str, int]) -> None:
        super().set_extra_state(state)
        self.images = state["images"]
